/** The peers that cases share. */
import * as Effect from "effect/Effect"
import * as Finagle from "../Finagle.ts"
import * as SharedPeers from "../SharedPeers.ts"
import { serve, serveBodies } from "./ours.ts"

const programs = {
  /** Finagle's ThriftMux server. */
  echo: Finagle.server("tm22"),
  /** The other one where it takes two, and the one that is drained and leased. */
  second: Finagle.server("tm22"),
  /** One that takes fragments of 1000 bytes. */
  windowed: Finagle.server("tm22", { window: 1000 }),
  /** Finagle's Mux server. */
  body: Finagle.server("mux24"),
  /** A ThriftMux server of ours, and Finagle's client of it. */
  ours: Effect.gen(function*() {
    const ours = yield* serve()
    return { ...ours, client: yield* Finagle.client("tm22", [ours.address]) }
  }),
  /** A Mux server of ours, and Finagle's client of it. */
  ourBodies: Effect.gen(function*() {
    const ours = yield* serveBodies()
    return { ...ours, client: yield* Finagle.client("mux24", [ours.address]) }
  })
}

/** The shared peers of one run. */
export type Peers = "@scales-rpc/interop/Peers"

export const { layer, shared } = SharedPeers.make("@scales-rpc/interop/Peers", programs)

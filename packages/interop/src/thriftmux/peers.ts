/** The peers that cases share: each is started when it is first asked for, and lives as long as the run. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as RcMap from "effect/RcMap"
import type * as Scope from "effect/Scope"
import * as Finagle from "../Finagle.ts"
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

type Name = keyof typeof programs
type Failure = Effect.Error<(typeof programs)[Name]>

/** The shared peers of one run; which type each is of, `shared` knows. */
export class Peers extends Context.Service<Peers, RcMap.RcMap<Name, unknown, Failure>>()("@scales-rpc/interop/Peers") {
  static readonly layer = Layer.effect(
    Peers,
    RcMap.make({
      lookup: (name: Name): Effect.Effect<unknown, Failure, Scope.Scope> => programs[name],
      idleTimeToLive: "1 hour"
    })
  )
}

/** One of the shared peers. */
export const shared = <const N extends Name>(
  name: N
): Effect.Effect<Effect.Success<(typeof programs)[N]>, Failure, Peers | Scope.Scope> =>
  Effect.flatMap(
    Peers,
    (peers) => RcMap.get(peers, name) as Effect.Effect<Effect.Success<(typeof programs)[N]>, Failure, Scope.Scope>
  )

/** The ThriftMux family: Finagle's ThriftMux 22.7.0, and its Mux 24.2.0 for what needs no Thrift. */
import * as Effect from "effect/Effect"
import { folder } from "../Finagle.ts"
import { prepare } from "../Maven.ts"
import * as Suite from "../Suite.ts"
import { calls } from "./calls.ts"
import { contexts } from "./contexts.ts"
import { exchanges } from "./exchanges.ts"
import { failures } from "./failures.ts"
import { fragments } from "./fragments.ts"
import { hops } from "./hops.ts"
import { lifecycle } from "./lifecycle.ts"
import { load } from "./load.ts"
import { muxServer } from "./muxServer.ts"
import { mux } from "./mux.ts"
import { layer } from "./peers.ts"
import { rerr } from "./rerr.ts"
import { restarts } from "./restart.ts"
import { server } from "./server.ts"
import { tls } from "./tls.ts"
import { traces } from "./traces.ts"

const cases = [
  ...calls,
  ...failures,
  ...contexts,
  ...lifecycle,
  ...fragments,
  ...mux,
  ...server,
  ...muxServer,
  ...exchanges,
  ...rerr,
  ...hops,
  ...traces,
  ...restarts,
  ...tls,
  ...load
]

/** Runs the cases that `select` picks. Without Java or Maven that is a failure in CI; elsewhere they are skipped. */
export const run = (select: (name: string) => boolean, deadline: number): Effect.Effect<Suite.Tally> => {
  const selected = cases.filter(({ name }) => select(name))
  return prepare([folder("tm22"), folder("mux24")]).pipe(
    Effect.andThen(Effect.provide(Suite.run(selected, deadline), layer)),
    Effect.catchTag("Missing", ({ what }) => Suite.skip("thriftmux", selected.length, what)),
    Effect.catchTag("BuildFailed", ({ message }) => Suite.fail("thriftmux", selected.length, message))
  )
}

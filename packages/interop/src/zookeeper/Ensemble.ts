/** ZooKeeper for the cases: one server, or three that elect a leader. */
import * as Effect from "effect/Effect"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { unused } from "./ports.ts"
import * as Server from "./Server.ts"

const directory = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "zookeeper-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)

/** A server that serves by itself, for as long as the scope is open. */
export const single = Effect.gen(function*() {
  const server = yield* Server.make(yield* directory, yield* unused)
  yield* server.start
  return server
})

/** The servers of an ensemble, and who leads it now. */
export interface Ensemble {
  readonly servers: ReadonlyArray<Server.Server>
  /** Waits until one leads. */
  readonly leader: Effect.Effect<Server.Server>
}

const leads = (server: Server.Server): Effect.Effect<boolean> =>
  server.facts.pipe(
    Effect.map((facts) => facts["zk_server_state"] === "leader"),
    // One that is frozen does not answer.
    Effect.catchTag("PeerError", () => Effect.succeed(false))
  )

/** Three servers, for as long as the scope is open. */
export const three = Effect.gen(function*() {
  const root = yield* directory
  const members: Array<Server.Member> = []
  for (const id of [1, 2, 3]) members.push({ id, ports: [yield* unused, yield* unused] })
  const servers: Array<Server.Server> = []
  for (const { id } of members) {
    servers.push(yield* Server.make(join(root, String(id)), yield* unused, { id, members }))
  }
  yield* Effect.forEach(servers, ({ start }) => start, { concurrency: "unbounded", discard: true })
  const leader: Effect.Effect<Server.Server> = Effect.gen(function*() {
    for (const server of servers) if (yield* leads(server)) return server
    yield* Effect.sleep("20 millis")
    return yield* leader
  })
  return { servers, leader } satisfies Ensemble
})

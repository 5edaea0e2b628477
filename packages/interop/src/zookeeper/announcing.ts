/** Announcements in a real ZooKeeper: renewed whatever happens, never twice, and gone when their scope is. */
import { Endpoint, ServerSet } from "@scales-rpc/core"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import assert from "node:assert/strict"
import { type Case, holds, theme } from "../Suite.ts"
import { serve } from "../thriftmux/ours.ts"
import { connect } from "./Client.ts"
import { load } from "./load.ts"
import { eventually, observe } from "./observe.ts"
import { type Peers, zooKeeper } from "./peers.ts"
import * as Proxy from "./Proxy.ts"
import { ending, promptly, withZooKeeper } from "./scene.ts"

const keyOf = (port: number): string => `127.0.0.1:${port}`

/** A server, a network to it, and another client of it. */
const place = Effect.gen(function*() {
  const server = yield* zooKeeper
  return { server, proxy: yield* Proxy.make(server.port), client: yield* connect(server.port) }
})

/** After a connection that broke while the announcement was being made: it is tried again with the next connection. */
const brokenBound = "5 seconds"

/** After somebody deleted the node. */
const deletedBound = "2 seconds"

/** Closing waits 2 seconds for the node to go, 1 for the session to end, and no longer. In milliseconds. */
const closingBound = 3500

export const announcing: ReadonlyArray<Case<Peers>> = theme("announcing", [
  holds(
    "writes what Finagle and Scales read, in another node when it changes, and takes it back",
    Effect.gen(function*() {
      const { client, proxy } = yield* place
      const path = "/announcing/data"
      const { announcement, end } = yield* ending(
        Effect.map(
          ServerSet.announce(`zk://${proxy.address}${path}`, Endpoint.tcp("127.0.0.1", 4001), {
            shard: 3,
            additionalEndpoints: { http: Endpoint.tcp("127.0.0.1", 8001) },
            metadata: { zone: "a" }
          }),
          (announcement) => ({ announcement })
        )
      )
      yield* announcement.announced
      const [name, ...others] = yield* client.children(path)
      assert.deepEqual(others, [])
      assert.match(name!, /^member_\d{10}$/)
      assert.deepEqual(announcement.state(), { _tag: "Announced", name })
      const said = { serviceEndpoint: { host: "127.0.0.1", port: 4001 }, status: "ALIVE" }
      assert.deepEqual(JSON.parse(yield* client.get(`${path}/${name}`)), {
        ...said,
        additionalEndpoints: { http: { host: "127.0.0.1", port: 8001 } },
        shard: 3,
        metadata: { zone: "a" }
      })
      yield* announcement.update({ status: "STOPPING" })
      const [renewed, ...more] = yield* client.children(path)
      assert.deepEqual(more, [])
      assert.notEqual(renewed, name)
      assert.deepEqual(JSON.parse(yield* client.get(`${path}/${renewed}`)), {
        ...said,
        status: "STOPPING",
        additionalEndpoints: {}
      })
      yield* end
      assert.deepEqual(yield* client.children(path), [])
    }).pipe(withZooKeeper())
  ),
  holds(
    `a reset at each frame of it, and in the middle of each: there once, and only once, within ${brokenBound}`,
    Effect.gen(function*() {
      const server = yield* zooKeeper
      const client = yield* connect(server.port)
      // Two for the session; the directory looked for, made with its parents, and looked at; the member made and watched.
      const cuts = Array.from({ length: 20 }, (_, frames) => [{ frames, bytes: 0 }, { frames, bytes: 6 }]).flat()
      yield* Effect.forEach(cuts, (cut, i) =>
        Effect.gen(function*() {
          const proxy = yield* Proxy.make(server.port, { cut: (connection) => connection === 0 ? cut : undefined })
          const path = `/announcing/resets/${i}`
          const announcement = yield* ServerSet.announce(
            `zk://${proxy.address}${path}`,
            Endpoint.tcp("127.0.0.1", 4001)
          )
          yield* eventually(
            Effect.sync(() => announcement.state()._tag === "Announced"),
            brokenBound,
            () => `it is not announced, cut after ${cut.frames} frames and ${cut.bytes} bytes`
          )
          yield* Effect.sleep("1500 millis")
          const { length } = yield* client.children(path)
          assert.equal(length, 1, `${length} nodes, cut after ${cut.frames} frames and ${cut.bytes} bytes`)
          assert.equal(announcement.state()._tag, "Announced")
        }).pipe(withZooKeeper()), { concurrency: "unbounded", discard: true })
    })
  ),
  holds(
    `a node that somebody deletes is there again within ${deletedBound}, also when the whole path was deleted`,
    Effect.gen(function*() {
      const { client, proxy } = yield* place
      const path = "/announcing/deleted"
      const uri = `zk://${proxy.address}${path}`
      const observed = yield* observe(uri)
      const announcement = yield* ServerSet.announce(uri, Endpoint.tcp("127.0.0.1", 4001))
      yield* announcement.announced
      yield* observed.shows([keyOf(4001)], promptly)
      const since = observed.states.length
      yield* client.deleteAll(path)
      yield* eventually(
        Effect.match(client.children(path), { onFailure: () => false, onSuccess: ({ length }) => length === 1 }),
        deletedBound,
        () => "it is not announced again"
      )
      yield* observed.kept([keyOf(4001)], since)
      yield* eventually(
        Effect.sync(() => announcement.state()._tag === "Announced"),
        deletedBound,
        () => "it does not know that it is"
      )
    }).pipe(withZooKeeper())
  ),
  holds(
    "with credentials and an access list, nobody else changes it, and whoever shows them reads it",
    Effect.gen(function*() {
      const { client, proxy } = yield* place
      const path = "/announcing/private"
      const uri = `zk://${proxy.address}${path}`
      const auth = [{ scheme: "digest", credentials: Redacted.make("ours:secret") }]
      const acl = [{ scheme: "auth", id: "", permissions: "rwcda" }]
      yield* Effect.gen(function*() {
        const announcement = yield* ServerSet.announce(uri, Endpoint.tcp("127.0.0.1", 4001))
        yield* announcement.announced
        const observed = yield* observe(uri)
        yield* observed.shows([keyOf(4001)], promptly)
        const noAuth = -102
        assert.equal((yield* Effect.flip(client.children(path))).code, noAuth)
        // Whoever may not read hears so, and is shown no set that is empty.
        const stranger = yield* withZooKeeper()(observe(uri))
        yield* eventually(
          Effect.sync(() => stranger.states.at(-1)?._tag === "Failed"),
          promptly,
          () => JSON.stringify(stranger.states)
        )
      }).pipe(withZooKeeper({ auth, acl }))
    })
  ),
  holds(
    `closing it while ZooKeeper is out of reach takes no more than ${closingBound} ms, and the node goes with the session`,
    Effect.gen(function*() {
      const { client, proxy } = yield* place
      const path = "/announcing/unreachable"
      const { end } = yield* ending(
        Effect.gen(function*() {
          const announcement = yield* ServerSet.announce(
            `zk://${proxy.address}${path}`,
            Endpoint.tcp("127.0.0.1", 4001)
          )
          yield* announcement.announced
          return {}
        }).pipe(withZooKeeper())
      )
      proxy.partition()
      const began = performance.now()
      yield* end
      const took = performance.now() - began
      assert.ok(took < closingBound, `it took ${Math.round(took)} ms`)
      yield* eventually(
        Effect.map(client.children(path), ({ length }) => length === 0),
        "3 seconds",
        () => "its node is still there"
      )
    })
  ),
  holds(
    "a server announces itself once it listens, and leaves before it drains: no call fails when it is closed",
    Effect.gen(function*() {
      const { proxy } = yield* place
      const uri = `zk://${proxy.address}/announcing/server`
      const observed = yield* observe(uri)
      const one = yield* ending(serve({ announce: { uri } }))
      const two = yield* ending(serve({ announce: { uri } }))
      yield* observed.shows([one.address, two.address], promptly)
      const calls = yield* load(uri)
      yield* one.pinged(5)
      yield* one.end
      yield* observed.shows([two.address], promptly)
      yield* calls.more(50)
      yield* calls.stop
      yield* calls.unharmed
    }).pipe(withZooKeeper())
  )
])

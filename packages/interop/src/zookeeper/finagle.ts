/** Finagle's server sets: what its announcer writes is read by ours, and what ours writes by its resolvers and its clients. */
import { Endpoint, HeapBalancer, ServerSet } from "@scales-rpc/core"
import { Mux } from "@scales-rpc/mux"
import { ThriftMux } from "@scales-rpc/thriftmux"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import assert from "node:assert/strict"
import { isDeepStrictEqual } from "node:util"
import * as Finagle from "../Finagle.ts"
import * as Maven from "../Maven.ts"
import { type PeerEvent, start } from "../Peer.ts"
import { type Case, holds, theme } from "../Suite.ts"
import { build, checkedCall, Echo } from "../thriftmux/echo.ts"
import { serve } from "../thriftmux/ours.ts"
import { noneLost } from "../thriftmux/results.ts"
import { inOrder } from "./inOrder.ts"
import { eventually, observe } from "./observe.ts"
import { type Peers, zooKeeper } from "./peers.ts"
import { unused } from "./ports.ts"
import { promptly, withZooKeeper } from "./scene.ts"

/** Makes sure that Finagle can be started. */
export const prepareFinagle = Maven.prepare([Finagle.folder("tm22")])

/** Finagle's announcer and resolvers, without a server or a client of it. */
const serverSets = Effect.map(start(Maven.program("Finagle", Finagle.folder("tm22"), ["server-sets"])), (peer) => ({
  announce: (name: string, address: string) => peer.command(["announce", name, address]),
  leave: (name: string) => peer.command(["leave", name]),
  /** What a resolver says: all since now, then what is to come. */
  watch: (name: string) =>
    Effect.as(peer.command(["watch", name]), Stream.filter(peer.events, (event) => event["name"] === name))
}))

const numbers = (count: number) => Array.from({ length: count }, (_, i) => i)

const isNeg = ({ state }: PeerEvent): boolean => state === "Neg"

/** Whether a resolver says that a set is these endpoints, of which this is all that it says. */
const isBound = (...endpoints: ReadonlyArray<object>) => ({ endpoints: said, state }: PeerEvent): boolean =>
  state === "Bound" && isDeepStrictEqual(said, endpoints)

/** A ZooKeeper, and the names of a path of it: `zk://` is ours, `zk!` and `zk2!` are Finagle's. */
const place = (path: string) =>
  Effect.map(zooKeeper, ({ address }) => ({
    ours: `zk://${address}${path}`,
    zk: `zk!${address}!${path}`,
    zk2: `zk2!${address}!${path}`
  }))

/** Within this a member is gone whose process ended without a word: Finagle's sessions time out after 4 s. */
const expired = "15 seconds"

/** How long a case may take in which `zk2!` has to notice something: its epochs are 10 s. */
const slow = "60 seconds"

const theirs: ReadonlyArray<Case<Peers>> = theme("Finagle announces, we read", [
  holds(
    "its members with their shards, and their other endpoints by name",
    Effect.gen(function*() {
      const { ours, zk } = yield* place("/finagle/read")
      const finagle = yield* serverSets
      const set = yield* observe(ours)
      const http = yield* observe(`${ours}#http`)
      yield* finagle.announce(`${zk}!7`, "127.0.0.1:4001")
      yield* set.shows(["127.0.0.1:4001"], promptly)
      yield* finagle.announce(`${zk}!8`, "127.0.0.1:4002")
      yield* set.shows(["127.0.0.1:4001", "127.0.0.1:4002"], promptly)
      assert.deepEqual(["127.0.0.1:4001", "127.0.0.1:4002"].map((key) => set.endpoint(key)?.shard), [7, 8])
      assert.deepEqual(http.members(), [])
      yield* finagle.announce(`${zk}!8!http`, "127.0.0.1:4003")
      yield* http.shows(["127.0.0.1:4003"], promptly)
      assert.equal(http.endpoint("127.0.0.1:4003")?.shard, 8)
    }).pipe(withZooKeeper())
  ),
  holds(
    "a member that it announces anew, because it has another endpoint, never leaves, not even as the only one",
    Effect.gen(function*() {
      const { ours, zk } = yield* place("/finagle/anew")
      const finagle = yield* serverSets
      const set = yield* observe(ours)
      const name = () => set.endpoint("127.0.0.1:4001")?.metadata["zk.member"]
      yield* finagle.announce(`${zk}!7`, "127.0.0.1:4001")
      yield* set.shows(["127.0.0.1:4001"], promptly)
      const [before, since] = [name(), set.states.length]
      yield* finagle.announce(`${zk}!7!http`, "127.0.0.1:4003")
      yield* eventually(Effect.sync(() => name() !== before), promptly, () => `it is still ${before}`)
      yield* set.kept(["127.0.0.1:4001"], since)
    }).pipe(withZooKeeper())
  ),
  holds(
    "a member leaves when Finagle says so, and when its process is gone without a word",
    Effect.gen(function*() {
      const { ours, zk } = yield* place("/finagle/leave")
      const staying = yield* serverSets
      yield* staying.announce(`${zk}!0`, "127.0.0.1:4001")
      yield* staying.announce(`${zk}!1`, "127.0.0.1:4002")
      const life = yield* Scope.make()
      const dying = yield* Scope.provide(serverSets, life)
      yield* dying.announce(`${zk}!2`, "127.0.0.1:4003")
      const set = yield* observe(ours)
      yield* set.shows(["127.0.0.1:4001", "127.0.0.1:4002", "127.0.0.1:4003"], promptly)
      yield* staying.leave(`${zk}!1`)
      yield* set.shows(["127.0.0.1:4001", "127.0.0.1:4003"], promptly)
      // Its process halts, and closes no session.
      yield* Scope.close(life, Exit.void)
      yield* set.shows(["127.0.0.1:4001"], expired)
    }).pipe(withZooKeeper()),
    slow
  ),
  holds(
    "our client calls the ThriftMux servers that it announces, those that join later too",
    Effect.gen(function*() {
      const { ours, zk } = yield* place("/finagle/call")
      const finagle = yield* serverSets
      const [first, second] = yield* Effect.all([Finagle.server("tm22"), Finagle.server("tm22")], { concurrency: 2 })
      yield* finagle.announce(`${zk}!0`, first.address)
      const { client } = yield* build(Echo, ThriftMux.layer(Echo, { uri: ours, balancer: HeapBalancer.layer(Mux) }))
      yield* checkedCall(client, 1)
      yield* finagle.announce(`${zk}!1`, second.address)
      const calls = Effect.forEach(numbers(16), (i) => checkedCall(client, i), { concurrency: 16, discard: true })
      const called = Effect.map(Effect.andThen(calls, second.stats), ({ calls }) => (calls["passMessage"] ?? 0) > 0)
      yield* eventually(called, promptly, () => "the second server is not called")
    }).pipe(withZooKeeper())
  )
])

const others: ReadonlyArray<Case<Peers>> = theme("we announce, Finagle reads", [
  holds(
    "`zk!` and `zk2!` resolve our members, with shard, metadata and other endpoints by name, until they leave",
    Effect.gen(function*() {
      const { ours, zk, zk2 } = yield* place("/ours/read")
      const finagle = yield* serverSets
      const old = { service: yield* finagle.watch(zk), http: yield* finagle.watch(`${zk}!http`) }
      const now = { service: yield* finagle.watch(zk2), http: yield* finagle.watch(`${zk2}!http`) }
      yield* Effect.forEach([old.service, old.http, now.service, now.http], (each) => inOrder(each, isNeg))
      const life = yield* Scope.make()
      yield* ServerSet.announce(ours, Endpoint.tcp("127.0.0.1", 4001), {
        shard: 3,
        metadata: { zone: "a" },
        additionalEndpoints: { http: Endpoint.tcp("127.0.0.1", 4002) }
      }).pipe(Scope.provide(life))
      const service = { address: "127.0.0.1:4001", weight: 1 }
      const http = { address: "127.0.0.1:4002", weight: 1 }
      const said = { shard: 3, metadata: { zone: "a" } }
      yield* inOrder(old.service, isBound(service))
      yield* inOrder(old.http, isBound(http))
      yield* inOrder(now.service, isBound({ ...service, ...said }))
      yield* inOrder(now.http, isBound({ ...http, ...said }))
      yield* Scope.close(life, Exit.void)
      yield* inOrder(now.service, isBound({ ...service, ...said }), isNeg)
      yield* inOrder(old.service, isBound(service), isNeg)
    }).pipe(withZooKeeper()),
    slow
  ),
  holds(
    "`zk2!`, which reads a node once, sees what a member says anew: that it is alive, its shard, and that it stops",
    Effect.gen(function*() {
      const { ours, zk2 } = yield* place("/ours/update")
      const finagle = yield* serverSets
      const set = yield* finagle.watch(zk2)
      yield* inOrder(set, isNeg)
      const { announced, update } = yield* ServerSet.announce(ours, Endpoint.tcp("127.0.0.1", 4001), {
        status: "STARTING"
      })
      yield* announced
      const member = (shard: number) => isBound({ address: "127.0.0.1:4001", weight: 1, shard, metadata: {} })
      yield* update({ shard: 3 })
      yield* inOrder(set, member(3))
      yield* update({ shard: 4 })
      yield* inOrder(set, member(4))
      yield* update({ status: "STOPPING" })
      yield* inOrder(set, isNeg)
    }).pipe(withZooKeeper()),
    slow
  ),
  holds(
    "its client calls our servers by what they announce, and loses no call when one of them ends",
    Effect.gen(function*() {
      const { ours, zk2 } = yield* place("/ours/call")
      const life = yield* Scope.make()
      const [staying, leaving] = [
        yield* serve({ announce: { uri: ours } }),
        yield* Scope.provide(serve({ announce: { uri: ours } }), life)
      ]
      yield* Effect.forEach([staying, leaving], ({ server }) => server.announcements[0]!.announced)
      const client = yield* Finagle.client("tm22", [zk2])
      const load = yield* Effect.forkScoped(client.load(["ping"], { requests: 10_000_000, concurrency: 16 }))
      yield* Effect.forEach([staying, leaving], ({ pinged }) => pinged(1000))
      yield* Scope.close(life, Exit.void)
      yield* staying.pinged(5000)
      yield* client.command(["stop"])
      noneLost(yield* Fiber.join(load))
    }).pipe(withZooKeeper()),
    slow
  ),
  holds(
    "an announcement for a ZooKeeper that cannot be reached holds up no other; Finagle's holds up all of its process",
    Effect.gen(function*() {
      const { ours, zk } = yield* place("/ours/unreachable")
      const nobody = `127.0.0.1:${yield* unused}`
      const lost = yield* ServerSet.announce(`zk://${nobody}/lost`, Endpoint.tcp("127.0.0.1", 4001))
      const { announced } = yield* ServerSet.announce(ours, Endpoint.tcp("127.0.0.1", 4002))
      yield* Effect.timeout(announced, promptly)
      assert.equal(lost.state()._tag, "Pending")
      const finagle = yield* serverSets
      yield* Effect.forkScoped(finagle.announce(`zk!${nobody}!/lost!0`, "127.0.0.1:4003"), { startImmediately: true })
      const theirs = yield* Effect.timeoutOption(finagle.announce(`${zk}!0`, "127.0.0.1:4004"), "5 seconds")
      assert.ok(Option.isNone(theirs))
    }).pipe(withZooKeeper())
  )
])

/** What Finagle 22.7 and ours make of each other's announcements. */
export const finagleCases: ReadonlyArray<Case<Peers>> = [...theirs, ...others]

/** kazoo and Scales for Python: what they write is read by ours, and what ours writes by them. */
import { Endpoint, ServerSet } from "@scales-rpc/core"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import assert from "node:assert/strict"
import { fileURLToPath } from "node:url"
import { type PeerEvent, start } from "../Peer.ts"
import * as Python from "../Python.ts"
import { type Case, holds, theme } from "../Suite.ts"
import { inOrder } from "./inOrder.ts"
import { eventually, observe } from "./observe.ts"
import { type Peers, zooKeeper } from "./peers.ts"
import { promptly, withZooKeeper } from "./scene.ts"

const folder = fileURLToPath(new URL("../../zookeeper/python", import.meta.url))

/** kazoo, and Scales with what it imports to follow a server set. */
const packages = [
  "kazoo==2.11.0",
  "scales-rpc==2.0.1",
  "gevent==26.9.0",
  "greenlet==3.5.6",
  "six==1.17.0",
  "zope.interface==8.7"
]

/** Makes sure that kazoo and Scales can be started. */
export const prepareKazoo = Python.prepare(folder, packages)

const peer = (name: string, script: string, ...args: ReadonlyArray<string>) => {
  const program = Python.program(name, folder, packages, [script, ...args])
  const lines = fileURLToPath(new URL("../../thrift/python", import.meta.url))
  return start({ ...program, env: { ...program.env, PYTHONPATH: `${program.env!["PYTHONPATH"]}:${lines}` } })
}

/** A node as kazoo reads it. */
interface Child {
  readonly name: string
  readonly data: string
  /** Scheme, id and permissions, 31 for all. */
  readonly acl: ReadonlyArray<readonly [string, string, number]>
  /** The session whose ephemeral node it is, in hex. */
  readonly owner: string
}

/** Not as words: JSON has spaces. */
const encoded = (data: unknown): string => Buffer.from(JSON.stringify(data)).toString("base64")

/** A session of kazoo's. */
const kazoo = (hosts: string) =>
  Effect.map(peer("kazoo", "kazoo_peer.py", hosts), ({ command, events }) => ({
    /** A member of a path that is made with it; its name. */
    join: (path: string, data: unknown) =>
      Effect.map(command(["join", path, encoded(data)]), ({ name }): string => name),
    make: (path: string, data: unknown) => command(["make", path, encoded(data)]),
    set: (path: string, data: unknown) => command(["set", path, encoded(data)]),
    /** The node and those below it. */
    delete: (path: string) => command(["delete", path]),
    auth: (scheme: string, credentials: string) => command(["auth", scheme, credentials]),
    read: (path: string) => Effect.map(command(["read", path]), ({ children }): ReadonlyArray<Child> => children),
    /** The names of a path's children, at first and whenever they have changed. */
    watch: (path: string) =>
      Effect.as(
        command(["watch", path]),
        Stream.map(
          Stream.filter(events, (event) => event["path"] === path),
          ({ names }) => names as ReadonlyArray<string>
        )
      )
  }))

/** A server set of Scales', with one of its members' other endpoints; what joins and what leaves. */
const scales = (hosts: string, path: string, endpoint?: string) =>
  Effect.map(
    peer("Scales", "scales_peer.py", hosts, path, ...(endpoint === undefined ? [] : [endpoint])),
    ({ events }) => events
  )

/** Whether an event of Scales' is that of a member. */
const told = (event: string, address: string, shard: number | null) => (told: PeerEvent): boolean =>
  told.event === event && told["address"] === address && told["shard"] === shard && told["status"] === "ALIVE"

/** A member as services announce themselves that Scales calls. */
const member = (port: number, more: object = {}) => ({
  serviceEndpoint: { host: "127.0.0.1", port },
  additionalEndpoints: { http: { host: "127.0.0.1", port: port + 1000 } },
  status: "ALIVE",
  ...more
})

const keyOf = (port: number): string => `127.0.0.1:${port}`

/** A ZooKeeper, kazoo's session with it, and what a path is called. */
const place = (path: string) =>
  Effect.gen(function*() {
    const { address } = yield* zooKeeper
    return { hosts: address, theirs: yield* kazoo(address), path, uri: `zk://${address}${path}` }
  })

const written: ReadonlyArray<Case<Peers>> = theme("kazoo writes, we read", [
  holds(
    "members in Scales' layout, with their shards, and their other endpoints by name",
    Effect.gen(function*() {
      const { path, theirs, uri } = yield* place("/kazoo/read")
      const [set, http] = [yield* observe(uri), yield* observe(`${uri}#http`)]
      yield* theirs.join(path, member(4001))
      // Scales reads a shard that is text as well.
      yield* theirs.join(path, member(4002, { shard: "12", unknown: { to: ["us"] } }))
      yield* theirs.join(path, member(4003, { additionalEndpoints: {} }))
      yield* set.shows([keyOf(4001), keyOf(4002), keyOf(4003)], promptly)
      yield* http.shows([keyOf(5001), keyOf(5002)], promptly)
      assert.deepEqual([4001, 4002, 4003].map((port) => set.endpoint(keyOf(port))?.shard), [undefined, 12, undefined])
    }).pipe(withZooKeeper())
  ),
  holds(
    "a member whose data is written again, to what is not called, and back",
    Effect.gen(function*() {
      const { path, theirs, uri } = yield* place("/kazoo/set")
      const set = yield* observe(uri)
      const name = yield* theirs.join(path, member(4001))
      yield* theirs.join(path, member(4002))
      yield* set.shows([keyOf(4001), keyOf(4002)], promptly)
      const write = (more: object) => theirs.set(`${path}/${name}`, member(4001, more))
      const shard = (expected: number) =>
        eventually(
          Effect.sync(() => set.endpoint(keyOf(4001))?.shard === expected),
          promptly,
          () => `its shard is ${set.endpoint(keyOf(4001))?.shard}, not ${expected}`
        )
      yield* write({ shard: 5 })
      yield* shard(5)
      yield* write({ shard: 5, status: "STOPPING" })
      yield* set.shows([keyOf(4002)], promptly)
      yield* write({ shard: 6 })
      yield* set.shows([keyOf(4001), keyOf(4002)], promptly)
      yield* shard(6)
    }).pipe(withZooKeeper())
  ),
  holds(
    "weights in a vector, when they are written, written again, and deleted",
    Effect.gen(function*() {
      const { path, theirs, uri } = yield* place("/kazoo/vector")
      const set = yield* observe(uri)
      const name = yield* theirs.join(path, member(4001))
      const vector = (weight: number) => ({ vector: [{ select: `member=${name}`, weight, priority: 1 }] })
      const weight = (expected: number) =>
        eventually(
          Effect.sync(() => set.endpoint(keyOf(4001))?.weight === expected),
          promptly,
          () => `its weight is ${set.endpoint(keyOf(4001))?.weight}, not ${expected}`
        )
      yield* weight(1)
      yield* theirs.make(`${path}/vector_0000000000`, vector(2.5))
      yield* weight(2.5)
      yield* theirs.set(`${path}/vector_0000000000`, vector(0.5))
      yield* weight(0.5)
      yield* theirs.delete(`${path}/vector_0000000000`)
      yield* weight(1)
    }).pipe(withZooKeeper())
  )
])

const isNone = (names: ReadonlyArray<string>): boolean => names.length === 0
const isOne = (name: string) => (names: ReadonlyArray<string>): boolean => names.join() === name

const announced: ReadonlyArray<Case<Peers>> = theme("we announce, kazoo reads", [
  holds(
    "one ephemeral node with the JSON of the references, which anybody may do anything with; it goes with our scope",
    Effect.gen(function*() {
      const { path, theirs, uri } = yield* place("/ours/kazoo")
      const names = yield* theirs.watch(path)
      const life = yield* Scope.make()
      const announcement = yield* ServerSet.announce(uri, Endpoint.tcp("10.0.0.3", 80), {
        shard: 0,
        metadata: { k: "v" },
        additionalEndpoints: { http: Endpoint.tcp("10.0.0.2", 8080) }
      }).pipe(Scope.provide(life))
      yield* announcement.announced
      const [child, ...rest] = yield* theirs.read(path)
      assert.deepEqual(rest, [])
      assert.equal(child!.name, "member_0000000000")
      assert.deepEqual(announcement.state(), { _tag: "Announced", name: child!.name })
      assert.deepEqual(JSON.parse(child!.data), {
        serviceEndpoint: { host: "10.0.0.3", port: 80 },
        additionalEndpoints: { http: { host: "10.0.0.2", port: 8080 } },
        status: "ALIVE",
        shard: 0,
        metadata: { k: "v" }
      })
      assert.deepEqual(child!.acl, [["world", "anyone", 31]])
      assert.notEqual(child!.owner, "0")
      yield* Scope.close(life, Exit.void)
      yield* inOrder(names, isOne("member_0000000000"), isNone)
    }).pipe(withZooKeeper())
  ),
  holds(
    "what we say anew in another node: that is there first, unless the older one was not to be called",
    Effect.gen(function*() {
      const { path, theirs, uri } = yield* place("/ours/anew")
      const names = yield* theirs.watch(path)
      const announcement = yield* ServerSet.announce(uri, Endpoint.tcp("127.0.0.1", 4001), { status: "STARTING" })
      yield* announcement.announced
      const said = Effect.map(theirs.read(path), (children) =>
        children.map(({ data, name }) => {
          const { shard, status } = JSON.parse(data)
          return [name, status, shard]
        }))
      yield* announcement.update({ shard: 2 })
      assert.deepEqual(yield* said, [["member_0000000001", "ALIVE", 2]])
      yield* announcement.update({ shard: 3 })
      assert.deepEqual(yield* said, [["member_0000000002", "ALIVE", 3]])
      const seen = yield* Stream.runCollect(Stream.takeUntil(names, isOne("member_0000000002")))
      const alive = seen.slice(seen.findIndex((each) => each.includes("member_0000000001")))
      assert.ok(alive.every(({ length }) => length > 0), JSON.stringify(seen))
    }).pipe(withZooKeeper())
  ),
  holds(
    "a node that is made anew when somebody deletes it",
    Effect.gen(function*() {
      const { path, theirs, uri } = yield* place("/ours/deleted")
      const names = yield* theirs.watch(path)
      const { announced } = yield* ServerSet.announce(uri, Endpoint.tcp("127.0.0.1", 4001))
      yield* announced
      const [child] = yield* theirs.read(path)
      yield* theirs.delete(`${path}/${child!.name}`)
      yield* inOrder(names, isOne("member_0000000000"), isOne("member_0000000001"))
      const [anew] = yield* theirs.read(path)
      assert.equal(anew!.data, child!.data)
    }).pipe(withZooKeeper())
  ),
  holds(
    "a node with an access list: nothing without its credentials, and with them everything",
    Effect.gen(function*() {
      const { path, theirs, uri } = yield* place("/ours/acl")
      const { announced } = yield* ServerSet.announce(uri, Endpoint.tcp("127.0.0.1", 4001))
      yield* announced
      const refused = yield* Effect.flip(theirs.read(path))
      assert.match(refused.message, /NoAuthError/)
      yield* theirs.auth("digest", "echo:secret")
      const [child] = yield* theirs.read(path)
      assert.deepEqual(child!.acl.map(([scheme, , permissions]) => [scheme, permissions]), [["digest", 31]])
      assert.equal(JSON.parse(child!.data).serviceEndpoint.port, 4001)
      const set = yield* observe(uri)
      yield* set.shows([keyOf(4001)], promptly)
    }).pipe(withZooKeeper({
      auth: [{ scheme: "digest", credentials: Redacted.make("echo:secret") }],
      acl: [{ scheme: "auth", id: "", permissions: "rwcda" }]
    }))
  )
])

const scalesReads: ReadonlyArray<Case<Peers>> = theme("we announce, Scales for Python reads", [
  holds(
    "members that join and leave, with shard and status, and their other endpoints by name",
    Effect.gen(function*() {
      const { hosts, path, uri } = yield* place("/ours/scales")
      const [set, http] = [yield* scales(hosts, path), yield* scales(hosts, path, "http")]
      const announce = (port: number, shard?: number) =>
        ServerSet.announce(uri, Endpoint.tcp("127.0.0.1", port), {
          shard,
          additionalEndpoints: { http: Endpoint.tcp("127.0.0.1", port + 1000) }
        })
      yield* announce(4001)
      const life = yield* Scope.make()
      yield* Scope.provide(announce(4002, 3), life)
      yield* inOrder(set, told("joined", keyOf(4001), null))
      yield* inOrder(set, told("joined", keyOf(4002), 3))
      yield* inOrder(http, told("joined", keyOf(5002), 3))
      yield* Scope.close(life, Exit.void)
      yield* inOrder(set, told("left", keyOf(4002), 3))
      yield* inOrder(http, told("left", keyOf(5002), 3))
    }).pipe(withZooKeeper())
  ),
  holds(
    "a member that is announced as starting, is alive then and stops: joined in the end while it is, and gone when it is not",
    Effect.gen(function*() {
      const { hosts, path, uri } = yield* place("/ours/status")
      const set = yield* scales(hosts, path)
      const is = (event: string, status: string) => (told: PeerEvent) =>
        told.event === event && told["status"] === status
      const announcement = yield* ServerSet.announce(uri, Endpoint.tcp("127.0.0.1", 4001), { status: "STARTING" })
      yield* inOrder(set, is("joined", "STARTING"))
      yield* announcement.update({ status: "ALIVE" })
      yield* inOrder(set, is("left", "STARTING"), is("joined", "ALIVE"))
      yield* announcement.update({ status: "STOPPING" })
      // It calls what is not alive. But an endpoint goes with the first of its members that leaves.
      yield* inOrder(set, is("joined", "STOPPING"), is("left", "ALIVE"))
    }).pipe(withZooKeeper())
  )
])

/** What kazoo 2.11, Scales 2.0 and ours make of each other's server sets. */
export const kazooCases: ReadonlyArray<Case<Peers>> = [...written, ...announced, ...scalesReads]

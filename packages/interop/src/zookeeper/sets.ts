/** Server sets of a real ZooKeeper, and how much is read of it: a proxy counts the requests, the server the watches. */
import { Endpoint, ServerSet } from "@scales-rpc/core"
import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { type Case, holds, theme } from "../Suite.ts"
import { connect as connectClient } from "../thriftmux/echo.ts"
import { type Client, connect, sequential } from "./Client.ts"
import { load } from "./load.ts"
import { recorded } from "./logs.ts"
import { eventually, observe } from "./observe.ts"
import { type Peers, zooKeeper } from "./peers.ts"
import * as Proxy from "./Proxy.ts"
import { announced, member, promptly, withZooKeeper } from "./scene.ts"
import { Op } from "./Wire.ts"

const childrenRead = [Op.children, Op.children2] as const

/** A server, a network to it, and another client of it. */
const place = Effect.gen(function*() {
  const server = yield* zooKeeper
  return { server, proxy: yield* Proxy.make(server.port), client: yield* connect(server.port) }
})

const numbers = (count: number) => Array.from({ length: count }, (_, i) => i)

const keyOf = (port: number): string => `127.0.0.1:${port}`

/** Makes a member, and says what its node is called. */
const join = (client: Client, path: string, port: number, fields: object = {}) =>
  Effect.map(client.create(`${path}/member_`, member(port, fields), sequential), (made) => made.slice(path.length + 1))

/** Data of members from which nothing can be called, by what is wrong with it. */
const malformed: Readonly<Record<string, string | Uint8Array>> = {
  "nothing at all": "",
  "no JSON": "127.0.0.1:5000",
  "JSON that is cut off": member(5001).slice(0, -4),
  "no UTF-8": Buffer.concat([Buffer.from(member(5002).replace("ALIVE", "AL")), Buffer.from([0xff, 0xfe])]),
  "a list": `[${member(5003)}]`,
  null: "null",
  "no service endpoint": JSON.stringify({ additionalEndpoints: {}, status: "ALIVE" }),
  "no status": JSON.stringify({ serviceEndpoint: { host: "127.0.0.1", port: 5004 }, additionalEndpoints: {} }),
  "a status that is none": member(5005, { status: "FINE" }),
  "a port that is none": member(99_999),
  "a port that is text": member(5006, { serviceEndpoint: { host: "127.0.0.1", port: "5006" } }),
  "a host that is a number": member(5007, { serviceEndpoint: { host: 127, port: 5007 } })
}

export const sets: ReadonlyArray<Case<Peers>> = theme("server set", [
  holds(
    "members join and leave under load: each that joins is called, and no call fails when one leaves",
    Effect.gen(function*() {
      const { proxy } = yield* place
      const uri = `zk://${proxy.address}/sets/load`
      const observed = yield* observe(uri)
      const first = yield* announced(uri)
      yield* observed.shows([first.address], promptly)
      const calls = yield* load(uri)
      yield* calls.more(100)
      let last = first
      for (let round = 0; round < 5; round++) {
        const next = yield* announced(uri)
        yield* next.pinged(1)
        yield* last.end
        yield* observed.shows([next.address], promptly)
        last = next
      }
      yield* calls.more(100)
      yield* calls.stop
      yield* calls.unharmed
      assert.deepEqual(calls.endpoints(), [last.address])
    }).pipe(withZooKeeper())
  ),
  holds(
    "1,000 members cost a read each, one that joins one more, one that leaves none",
    Effect.gen(function*() {
      const { client, proxy, server } = yield* place
      const path = "/sets/thousand"
      yield* client.ensure(path)
      const ports = numbers(1000).map((i) => 10_000 + i)
      const names = yield* Effect.forEach(ports, (port) => join(client, path, port), { concurrency: "unbounded" })
      const observed = yield* observe(`zk://${proxy.address}${path}`)
      yield* observed.shows(ports.map(keyOf), "5 seconds")
      assert.equal(proxy.requests(Op.get), 1000)
      assert.equal(proxy.requests(...childrenRead), 1)
      assert.equal(yield* server.watches, 1001)

      proxy.forget()
      yield* join(client, path, 9999)
      yield* observed.shows([...ports, 9999].map(keyOf), promptly)
      assert.equal(proxy.requests(Op.get), 1)
      assert.equal(proxy.requests(...childrenRead), 1)

      proxy.forget()
      yield* client.delete(`${path}/${names[0]}`)
      yield* observed.shows([...ports.slice(1), 9999].map(keyOf), promptly)
      assert.equal(proxy.requests(Op.get), 0)
      assert.equal(proxy.requests(...childrenRead), 1)
      assert.equal(yield* server.watches, 1001)
    }).pipe(withZooKeeper())
  ),
  holds(
    "100 changes, one after the other and then at once, are read at most once more than needed",
    Effect.gen(function*() {
      const { client, proxy, server } = yield* place
      const path = "/sets/quota"
      yield* client.ensure(path)
      const observed = yield* observe(`zk://${proxy.address}${path}`)
      yield* observed.shows([], promptly)
      proxy.forget()
      const ports = numbers(50).map((i) => 10_000 + i)
      for (const [i, port] of ports.entries()) {
        yield* join(client, path, port)
        yield* observed.shows(ports.slice(0, i + 1).map(keyOf), promptly)
      }
      assert.equal(proxy.requests(Op.get), 50)
      assert.ok(proxy.requests(...childrenRead) <= 51, `${proxy.requests(...childrenRead)} reads of the directory`)

      proxy.forget()
      const more = numbers(50).map((i) => 11_000 + i)
      yield* Effect.forEach(more, (port) => join(client, path, port), { concurrency: "unbounded", discard: true })
      yield* observed.shows([...ports, ...more].map(keyOf), promptly)
      assert.equal(proxy.requests(Op.get), 50)
      assert.ok(proxy.requests(...childrenRead) <= 51, `${proxy.requests(...childrenRead)} reads of the directory`)
      assert.equal(yield* server.watches, 101)
    }).pipe(withZooKeeper())
  ),
  holds(
    "a member whose data is rewritten changes in place, for one read of it and none of the others",
    Effect.gen(function*() {
      const { client, proxy, server } = yield* place
      const path = "/sets/rewritten"
      yield* client.ensure(path)
      const [name] = yield* Effect.forEach([4001, 4002, 4003], (port) => join(client, path, port))
      const observed = yield* observe(`zk://${proxy.address}${path}`)
      const all = [4001, 4002, 4003].map(keyOf)
      yield* observed.shows(all, promptly)
      for (const shard of numbers(10)) {
        proxy.forget()
        yield* client.set(`${path}/${name}`, member(4001, { shard }))
        yield* eventually(
          Effect.sync(() => observed.endpoint(keyOf(4001))?.shard === shard),
          promptly,
          () => `shard ${shard} is not shown`
        )
        assert.equal(proxy.requests(Op.get), 1)
        assert.equal(proxy.requests(...childrenRead), 0)
      }
      yield* client.set(`${path}/${name}`, member(4001, { status: "STOPPING" }))
      yield* observed.shows(all.slice(1), promptly)
      assert.equal(yield* server.watches, 4)
    }).pipe(withZooKeeper())
  ),
  holds(
    "weights of vectors are heeded, and follow their node",
    Effect.gen(function*() {
      const { client, proxy } = yield* place
      const path = "/sets/weights"
      yield* client.ensure(path)
      yield* join(client, path, 4001, { shard: 1 })
      const name = yield* join(client, path, 4002)
      const observed = yield* observe(`zk://${proxy.address}${path}`)
      yield* observed.shows([4001, 4002].map(keyOf), promptly)
      const vector = (weight: number) =>
        JSON.stringify({ vector: [{ select: "shard=1", weight: 2.5 }, { select: `member=${name}`, weight }] })
      const made = yield* client.create(`${path}/vector_`, vector(0.5), sequential)
      yield* eventually(
        Effect.sync(() =>
          observed.endpoint(keyOf(4001))?.weight === 2.5 && observed.endpoint(keyOf(4002))?.weight === 0.5
        ),
        promptly,
        () => "the weights are not shown"
      )
      yield* client.set(made, vector(-1))
      yield* observed.shows([keyOf(4001)], promptly)
      yield* client.delete(made)
      yield* observed.shows([4001, 4002].map(keyOf), promptly)
      assert.equal(observed.endpoint(keyOf(4001))?.weight, 1)
    }).pipe(withZooKeeper())
  ),
  holds(
    `${
      Object.keys(malformed).length
    } kinds of malformed members are left out, each with one warning up to the ten of a storm, and take no other with them`,
    recorded((lines) =>
      Effect.gen(function*() {
        const { client, proxy } = yield* place
        const path = "/sets/malformed"
        yield* client.ensure(path)
        yield* join(client, path, 4001)
        for (const data of Object.values(malformed)) yield* client.create(`${path}/member_`, data, sequential)
        // One part that is wrong takes no other part with it.
        yield* join(client, path, 4002, { shard: "first", additionalEndpoints: [], metadata: { zone: 7 } })
        yield* client.create(`${path}/other`, "not a member by its name")
        yield* client.create(`${path}/vector_`, "no vector", sequential)
        const observed = yield* observe(`zk://${proxy.address}${path}`)
        yield* observed.shows([4001, 4002].map(keyOf), promptly)
        const warnings = () => lines.filter((line) => line.includes("malformed"))
        assert.ok(Object.keys(malformed).length > 10)
        assert.equal(warnings().length, 10, warnings().join("\n"))
        // Read again, and told no more: it is the same data.
        proxy.reset()
        yield* join(client, path, 4003)
        yield* observed.shows([4001, 4002, 4003].map(keyOf), promptly)
        assert.equal(warnings().length, 10)
        const [name] = (yield* client.children(path)).filter((one) => one.startsWith("member_")).toSorted().slice(1)
        yield* client.set(`${path}/${name}`, member(4004))
        yield* observed.shows([4001, 4002, 4003, 4004].map(keyOf), promptly)
      }).pipe(withZooKeeper())
    )
  ),
  holds(
    "a path that is not there reads as empty and is waited for; deleted and made again it is followed (Scales' item 10)",
    Effect.gen(function*() {
      const { client, proxy, server } = yield* place
      const path = "/sets/late/path"
      const observed = yield* observe(`zk://${proxy.address}${path}`)
      yield* eventually(
        Effect.sync(() => observed.states.at(-1)?._tag === "Neg"),
        promptly,
        () => "it does not say that there is none"
      )
      for (const round of numbers(2)) {
        yield* client.ensure(path)
        const ports = [4001, 4002, 4003 + round]
        yield* Effect.forEach(ports, (port) => join(client, path, port))
        yield* observed.shows(ports.map(keyOf), promptly)
        // All its members go with it, not one: held for `empty`, which is 2 seconds here.
        yield* client.deleteAll(path)
        yield* observed.shows([], "5 seconds")
        assert.equal(yield* server.watches, 1)
      }
    }).pipe(withZooKeeper()),
    "30 seconds"
  ),
  holds(
    "a path that is deleted and made again at once never loses a member that is there again",
    Effect.gen(function*() {
      const { client, proxy } = yield* place
      const path = "/sets/remade"
      const observed = yield* observe(`zk://${proxy.address}${path}`)
      yield* client.ensure(path)
      yield* Effect.forEach([4001, 4002], (port) => join(client, path, port))
      yield* observed.shows([4001, 4002].map(keyOf), promptly)
      const since = observed.states.length
      yield* client.deleteAll(path)
      yield* client.ensure(path)
      yield* Effect.forEach([4002, 4003], (port) => join(client, path, port))
      yield* observed.shows([4002, 4003].map(keyOf), "5 seconds")
      yield* observed.kept([keyOf(4002)], since)
    }).pipe(withZooKeeper())
  ),
  holds(
    "two members on one endpoint are one endpoint until both have left; DEAD members are none (Scales' item 10)",
    Effect.gen(function*() {
      const { client, proxy } = yield* place
      const path = "/sets/twice"
      yield* client.ensure(path)
      yield* join(client, path, 4001)
      const once = yield* join(client, path, 4002)
      const again = yield* join(client, path, 4002)
      yield* join(client, path, 4003, { status: "DEAD" })
      const observed = yield* observe(`zk://${proxy.address}${path}`)
      yield* observed.shows([4001, 4002].map(keyOf), promptly)
      const since = observed.states.length
      yield* client.delete(`${path}/${once}`)
      // A change after it: once that is shown, that one was.
      yield* join(client, path, 4004)
      yield* observed.shows([4001, 4002, 4004].map(keyOf), promptly)
      yield* Effect.sleep("500 millis")
      yield* observed.kept([4001, 4002].map(keyOf), since)
      yield* client.delete(`${path}/${again}`)
      yield* observed.shows([4001, 4004].map(keyOf), promptly)
    }).pipe(withZooKeeper())
  ),
  holds(
    "named endpoints: those of the members that have one",
    Effect.gen(function*() {
      const { client, proxy } = yield* place
      const path = "/sets/named"
      yield* client.ensure(path)
      yield* join(client, path, 4001, { additionalEndpoints: { http: { host: "127.0.0.1", port: 8001 } } })
      yield* join(client, path, 4002)
      const http = yield* observe(`zk://${proxy.address}${path}#http`)
      yield* http.shows([keyOf(8001)], promptly)
      yield* join(client, path, 4003, { additionalEndpoints: { http: { host: "127.0.0.1", port: 8003 } } })
      yield* http.shows([8001, 8003].map(keyOf), promptly)
    }).pipe(withZooKeeper())
  ),
  holds(
    "nothing hangs: a client is built at once, and a call ends by its deadline, whatever ZooKeeper does (Scales' item 4)",
    Effect.gen(function*() {
      const { client, proxy, server } = yield* place
      const silent = yield* Proxy.make(server.port)
      silent.partition()
      const refusing = yield* Proxy.make(server.port)
      refusing.refuse(true)
      yield* client.ensure("/sets/only-malformed")
      yield* client.create("/sets/only-malformed/member_", "{", sequential)
      yield* client.ensure("/sets/nameless")
      yield* join(client, "/sets/nameless", 4001)
      for (
        const uri of [
          `zk://${silent.address}/sets/any`,
          `zk://${refusing.address}/sets/any`,
          `zk://${proxy.address}/sets/only-malformed`,
          `zk://${proxy.address}/sets/nameless#http`,
          `zk://${proxy.address}/sets/nowhere`
        ]
      ) {
        const began = performance.now()
        const { echo } = yield* connectClient(uri, { timeout: "500 millis" })
        assert.ok(performance.now() - began < 500, `${uri} was not built at once`)
        const error = yield* Effect.flip(echo.ping())
        assert.ok(["Timeout", "NoEndpoints"].includes(error._tag), `${uri}: ${error._tag}`)
        assert.ok(performance.now() - began < 1500, `${uri} ended late`)
      }
    }).pipe(withZooKeeper())
  ),
  holds(
    "one session serves all server sets, clients and announcements of one ensemble",
    Effect.gen(function*() {
      const { proxy } = yield* place
      const uri = (name: string) => `zk://${proxy.address}/sets/shared/${name}`
      yield* ServerSet.announce(uri("a"), Endpoint.tcp("127.0.0.1", 4001))
      const sets = yield* Effect.forEach(["a", "b", "c"], (name) => observe(uri(name)))
      yield* Effect.forEach(["a", "b"], (name) => load(uri(name)))
      yield* sets[0]!.shows([keyOf(4001)], promptly)
      assert.equal(proxy.connections(), 1)
    }).pipe(withZooKeeper())
  )
])

/**
 * What can happen to ZooKeeper and to the way there, while a client of ours calls the members: no call fails, no member that lives is
 * lost, and afterwards the set is right again within the bound that stands at each case.
 *
 * The bounds hold for sessions of one second (`sessionMillis`), which most of them are made of.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import assert from "node:assert/strict"
import { type Case, holds, theme } from "../Suite.ts"
import { serve } from "../thriftmux/ours.ts"
import { type Client, type ClientError, connect, sequential } from "./Client.ts"
import { load } from "./load.ts"
import { eventually, observe } from "./observe.ts"
import { ensemble, type Peers, zooKeeper } from "./peers.ts"
import * as Proxy from "./Proxy.ts"
import { announced, ending, member, promptly, sessionMillis, withZooKeeper } from "./scene.ts"
import type { Server } from "./Server.ts"
import { Op } from "./Wire.ts"

const connectString = (at: ReadonlyArray<{ readonly address: string }>): string =>
  at.map(({ address }) => address).join(",")

/**
 * Three servers that are announced and live through the fault, and one that leaves; a client that calls them over `through`, and what
 * its set says. Those who announce have a session of their own, at `direct`: the fault is the client's alone.
 */
const scene = (path: string, direct: ReadonlyArray<Server>, through: string) =>
  Effect.gen(function*() {
    const port = direct[0]!.port
    const announcing = Effect.forEach([1, 2, 3], () => announced(`zk://${connectString(direct)}${path}`))
    const live = (yield* withZooKeeper()(announcing)).map(({ address }) => address)
    yield* live.length === 3 ? Effect.void : Effect.die("three are announced")
    const create = (client: Client, port: number) => client.create(`${path}/member_`, member(port), sequential)
    const [old, fresh] = yield* Effect.all([serve(), serve()])
    const client = yield* connect(port)
    yield* client.ensure(path)
    const oldNode = yield* create(client, old.port)
    const observed = yield* observe(`zk://${through}${path}`)
    yield* observed.shows([...live, old.address], promptly)
    const calls = yield* load(`zk://${through}${path}`)
    yield* calls.more(50)
    const since = observed.states.length
    return {
      calls,
      observed,
      live,
      /** One leaves and another joins, which whoever looks through the fault cannot see yet. */
      change: (at = port): Effect.Effect<void, ClientError, Scope.Scope> =>
        Effect.flatMap(connect(at), (client) => Effect.andThen(client.delete(oldNode), create(client, fresh.port))),
      /** While something is wrong calls go on, and the members stay. */
      meanwhile: (millis: number) =>
        Effect.gen(function*() {
          const before = calls.calls()
          yield* Effect.sleep(millis)
          assert.ok(calls.calls() > before + millis / 20, `${calls.calls() - before} calls in ${millis} ms`)
          yield* observed.kept(live, since)
          assert.ok(live.every((key) => calls.endpoints().includes(key)))
        }),
      /** The set shows the change within the bound, the client calls the new one, and nothing was lost on the way. */
      rightAgain: (within: Duration.Input) =>
        Effect.gen(function*() {
          yield* observed.shows([...live, fresh.address], within)
          yield* fresh.pinged(1)
          yield* calls.more(50)
          yield* calls.stop
          yield* calls.unharmed
          yield* observed.kept(live, since)
        })
    }
  })

/** A client that looks at one server through a proxy. */
const proxied = (path: string) =>
  Effect.gen(function*() {
    const server = yield* zooKeeper
    const proxy = yield* Proxy.make(server.port)
    return { server, proxy, ...yield* scene(path, [server], proxy.address) }
  })

/** One that looks at three servers, each through a proxy. */
const proxiedThree = (path: string) =>
  Effect.gen(function*() {
    const { leader, servers } = yield* ensemble
    const proxies = yield* Effect.forEach(servers, ({ port }) => Proxy.make(port))
    return { leader, servers, proxies, ...yield* scene(path, servers, connectString(proxies)) }
  })

/** How long a partition is that ends before the session does, and one that does not. */
const shortMillis = 0.4 * sessionMillis
const longMillis = 2.5 * sessionMillis

/** After a server that was killed serves again. The client tries its only server again after a third of its session timeout. */
const killedBound = "3 seconds"

/** After the leader was killed: the others elect one, which takes them about a second, and the client finds one of them. */
const leaderKilledBound = "5 seconds"

/** After a server that was frozen goes on. */
const frozenBound = "3 seconds"

/** After one of three was frozen: two thirds of the session timeout until the client leaves it, and a connection to another. */
const oneFrozenBound = "5 seconds"

/** After the end of a partition in which the session lived on. */
const shortPartitionBound = "2 seconds"

/** After the end of a partition in which the session expired: it is told so, and makes another. */
const longPartitionBound = "3 seconds"

/** After a reset anywhere in the handshake and the first reads. */
const resetBound = "3 seconds"

/** After the old address of a name is gone; `connectTimeout` is one second. */
const movedBound = "5 seconds"

/** After the end of a partition in which everybody's announcements expired. */
const announcedBound = "3 seconds"

const cuts = (frames: number): ReadonlyArray<Proxy.Cut> =>
  Array.from({ length: frames }, (_, i) => [{ frames: i, bytes: 0 }, { frames: i, bytes: 6 }]).flat()

export const faults: ReadonlyArray<Case<Peers>> = theme("under load", [
  holds(
    `a server is killed and restarted: right again within ${killedBound}`,
    Effect.gen(function*() {
      const { change, meanwhile, rightAgain, server } = yield* proxied("/faults/killed")
      yield* server.kill
      yield* meanwhile(1500)
      yield* server.start
      yield* change()
      yield* rightAgain(killedBound)
    }).pipe(withZooKeeper())
  ),
  holds(
    `the leader of three is killed: right again within ${leaderKilledBound}`,
    Effect.gen(function*() {
      const { change, leader, meanwhile, rightAgain, servers } = yield* proxiedThree("/faults/leader")
      const led = yield* leader
      yield* led.kill
      const next = yield* leader
      assert.notEqual(next.port, led.port)
      assert.ok(servers.includes(next))
      yield* change(next.port)
      yield* rightAgain(leaderKilledBound).pipe(Effect.zipWith(meanwhile(500), () => {}, { concurrent: true }))
    }).pipe(withZooKeeper())
  ),
  holds(
    `a server freezes for less than the session timeout: right again within ${frozenBound}, in the same session`,
    Effect.gen(function*() {
      const { change, meanwhile, proxy, rightAgain, server } = yield* proxied("/faults/frozen")
      const session = proxy.session()!.id
      yield* server.freeze
      yield* meanwhile(shortMillis)
      yield* server.thaw
      yield* change()
      yield* rightAgain(frozenBound)
      assert.equal(proxy.session()!.id, session)
    }).pipe(withZooKeeper())
  ),
  holds(
    `a server freezes for longer than the session timeout: right again within ${frozenBound}`,
    Effect.gen(function*() {
      const { change, meanwhile, rightAgain, server } = yield* proxied("/faults/frozen-long")
      yield* server.freeze
      yield* meanwhile(longMillis)
      yield* server.thaw
      yield* change()
      yield* rightAgain(frozenBound)
    }).pipe(withZooKeeper())
  ),
  holds(
    `the one of three that the client is at freezes: right again within ${oneFrozenBound}, at another`,
    Effect.gen(function*() {
      const { change, meanwhile, proxies, rightAgain, servers } = yield* proxiedThree("/faults/frozen-one")
      const at = proxies.findIndex((proxy) => proxy.requests(Op.children, Op.children2) > 0)
      const other = servers[(at + 1) % 3]!
      yield* servers[at]!.freeze
      yield* meanwhile(500)
      // The others need a leader to take a change, and the frozen one may have been it.
      yield* eventually(
        Effect.match(Effect.scoped(Effect.timeout(change(other.port), "2 seconds")), {
          onFailure: () => false,
          onSuccess: () => true
        }),
        "10 seconds",
        () => "the others take no change"
      )
      yield* rightAgain(oneFrozenBound)
    }).pipe(withZooKeeper())
  ),
  holds(
    `silence for less than the session timeout: right again within ${shortPartitionBound}, and one read of what changed`,
    Effect.gen(function*() {
      const { change, meanwhile, proxy, rightAgain, server } = yield* proxied("/faults/short")
      const watches = yield* server.watches
      proxy.forget()
      proxy.partition()
      yield* meanwhile(shortMillis / 2)
      yield* change()
      yield* meanwhile(shortMillis / 2)
      proxy.heal()
      yield* rightAgain(shortPartitionBound)
      // The client follows the set twice: once to observe it, once to call.
      assert.equal(proxy.requests(Op.get), 2)
      assert.equal(yield* server.watches, watches)
    }).pipe(withZooKeeper())
  ),
  holds(
    `silence for longer than the session timeout: right again within ${longPartitionBound}, told as one state`,
    Effect.gen(function*() {
      const { change, live, meanwhile, observed, proxy, rightAgain } = yield* proxied("/faults/long")
      const session = proxy.session()!.id
      const before = observed.states.length
      proxy.partition()
      yield* change()
      yield* meanwhile(longMillis)
      assert.equal(observed.states.length, before)
      proxy.heal()
      yield* rightAgain(longPartitionBound)
      assert.notEqual(proxy.session()!.id, session)
      // Who joined is shown with all that stayed; who left leaves 300 ms later, as `removals` says.
      const told = observed.states.slice(before).map((state) => state._tag === "Bound" ? state.endpoints.length : 0)
      assert.deepEqual(told, [live.length + 2, live.length + 1])
    }).pipe(withZooKeeper())
  ),
  holds(
    `a reset at each frame of the handshake and the first reads, and in the middle of each: a set within ${resetBound}`,
    Effect.gen(function*() {
      const server = yield* zooKeeper
      const client = yield* connect(server.port)
      const path = "/faults/resets"
      yield* client.ensure(path)
      const ports = [4001, 4002, 4003]
      yield* Effect.forEach(ports, (port) => client.create(`${path}/member_`, member(port), sequential))
      const keys = ports.map((port) => `127.0.0.1:${port}`)
      // Two for the session, two for the directory, six for its members.
      yield* Effect.forEach(cuts(10), (cut) =>
        Effect.gen(function*() {
          const proxy = yield* Proxy.make(server.port, { cut: (connection) => connection === 0 ? cut : undefined })
          const observed = yield* observe(`zk://${proxy.address}${path}`)
          yield* observed.shows(keys, resetBound)
          assert.ok(proxy.connections() > 1, `the connection was not cut after ${cut.frames} frames`)
        }).pipe(withZooKeeper()), { concurrency: "unbounded", discard: true })
    })
  ),
  holds(
    `a reset at each frame of a reconnect: what changed meanwhile is shown within ${resetBound}, and nothing was lost`,
    Effect.gen(function*() {
      const server = yield* zooKeeper
      const client = yield* connect(server.port)
      const root = "/faults/reconnects"
      // Two for the session, two for its watches, and what they tell.
      yield* Effect.forEach(cuts(6), (cut, i) =>
        Effect.gen(function*() {
          const path = `${root}/${i}`
          yield* client.ensure(path)
          yield* client.create(`${path}/member_`, member(4001), sequential)
          const proxy = yield* Proxy.make(server.port, { cut: (connection) => connection === 1 ? cut : undefined })
          const observed = yield* observe(`zk://${proxy.address}${path}`)
          yield* observed.shows(["127.0.0.1:4001"], promptly)
          proxy.reset()
          yield* client.create(`${path}/member_`, member(4002), sequential)
          yield* observed.shows(["127.0.0.1:4001", "127.0.0.1:4002"], resetBound)
          yield* observed.kept(["127.0.0.1:4001"], 1)
          yield* client.create(`${path}/member_`, member(4003), sequential)
          yield* observed.shows(["127.0.0.1:4001", "127.0.0.1:4002", "127.0.0.1:4003"], resetBound)
        }).pipe(withZooKeeper()), { concurrency: "unbounded", discard: true })
    })
  ),
  ...(["is gone", "is silent"] as const).map((how) =>
    holds(
      `the name of the server moves, and its old address ${how}: right again within ${movedBound}`,
      Effect.gen(function*() {
        let address = "127.0.0.2"
        const lookup = () => Effect.sync(() => [address])
        const server = yield* zooKeeper
        const before = yield* ending(Proxy.make(server.port, { host: "127.0.0.2" }))
        yield* Effect.gen(function*() {
          const path = `/faults/moved/${how.replace(" ", "-")}`
          const { change, meanwhile, rightAgain } = yield* scene(path, [server], `zookeeper.test:${before.port}`)
          const after = yield* Proxy.make(server.port, { host: "127.0.0.3", port: before.port })
          address = "127.0.0.3"
          if (how === "is gone") yield* before.end
          else before.partition()
          yield* change()
          yield* meanwhile(500)
          yield* rightAgain(movedBound)
          assert.ok(after.connections() > 0)
        }).pipe(withZooKeeper({ lookup, connectTimeout: "1 second" }))
      })
    )
  ),
  holds(
    `all announcements expire, since the servers are cut off from ZooKeeper: the members are kept, and all are announced again ${announcedBound} after`,
    Effect.gen(function*() {
      const server = yield* zooKeeper
      const proxy = yield* Proxy.make(server.port)
      const path = "/faults/announcers"
      const uri = `zk://${server.address}${path}`
      const servers = yield* withZooKeeper()(
        Effect.forEach([1, 2, 3], () => announced(`zk://${proxy.address}${path}`))
      )
      const live = servers.map(({ address }) => address)
      const observed = yield* observe(uri)
      yield* observed.shows(live, promptly)
      const calls = yield* load(uri)
      yield* calls.more(50)
      const since = observed.states.length
      const client = yield* connect(server.port)
      proxy.partition()
      const announcements = (count: number) => Effect.map(client.children(path), ({ length }) => length === count)
      yield* eventually(announcements(0), "5 seconds", () => "the announcements did not expire")
      yield* Effect.sleep("500 millis")
      proxy.heal()
      yield* eventually(announcements(3), announcedBound, () => "they are not announced again")
      yield* Effect.forEach(servers, ({ announcement }) =>
        eventually(
          Effect.sync(() => announcement.state()._tag === "Announced"),
          announcedBound,
          () => "one does not know that it is announced"
        ))
      yield* calls.more(50)
      yield* calls.stop
      yield* calls.unharmed
      yield* observed.kept(live, since)
      yield* observed.shows(live, promptly)
    }).pipe(withZooKeeper({ removals: "5 seconds", empty: "10 seconds" }))
  )
])

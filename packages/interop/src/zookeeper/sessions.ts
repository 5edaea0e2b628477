/** What sessions of a real ZooKeeper go through: expiry, lost connections, silence; and what is left when they are closed. */
import { Endpoint, ServerSet } from "@scales-rpc/core"
import { type Session, ZooKeeper, type ZooKeeperError } from "@scales-rpc/zookeeper"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import assert from "node:assert/strict"
import { fileURLToPath } from "node:url"
import { type Case, Full, holds, theme } from "../Suite.ts"
import { execute } from "../Toolchain.ts"
import { type Client, closeSession, connect, sequential } from "./Client.ts"
import { load } from "./load.ts"
import { eventually, observe } from "./observe.ts"
import { type Peers, zooKeeper } from "./peers.ts"
import * as Proxy from "./Proxy.ts"
import { announced, ending, member, promptly, withZooKeeper } from "./scene.ts"
import type { Server } from "./Server.ts"
import { Op } from "./Wire.ts"

const childrenRead = [Op.children, Op.children2] as const

const keyOf = (port: number): string => `127.0.0.1:${port}`

/** Ends the session that a proxy saw last, as nobody but its owner should be able to. */
const expire = (server: Server, proxy: Proxy.Proxy) => Effect.suspend(() => closeSession(server.port, proxy.session()!))

/** A server, a network to it, and members there. */
const place = (path: string, ports: ReadonlyArray<number>) =>
  Effect.gen(function*() {
    const server = yield* zooKeeper
    const proxy = yield* Proxy.make(server.port)
    const client = yield* connect(server.port)
    yield* client.ensure(path)
    yield* Effect.forEach(ports, (port) => join(client, path, port))
    return { server, proxy, client, uri: `zk://${proxy.address}${path}`, keys: ports.map(keyOf) }
  })

const join = (client: Client, path: string, port: number) => client.create(`${path}/member_`, member(port), sequential)

const sessionOf = (address: string) => Effect.flatMap(ZooKeeper, (zookeeper) => zookeeper.session(address))

const connected = (session: Session) =>
  eventually(
    Effect.sync(() => session.status().state === "Connected"),
    promptly,
    () => `the session is ${session.status().state}`
  )

/** After a session was closed by another: it is lost, found to be expired, and another one made, with a jittered pause of at most 200 ms. */
const expiredBound = "3 seconds"

/** How long it takes to notice silence: two thirds of the session timeout, and a margin. */
const noticedBound = "1 second"

/** What is known to be there when a program has ended by itself, in milliseconds of its whole life. */
const programBound = "8 seconds"

const program = fileURLToPath(new URL("program.ts", import.meta.url))

export const sessions: ReadonlyArray<Case<Peers>> = theme("session", [
  holds(
    `closed under load by a second client with its id: right again within ${expiredBound}, announcements too, told as one state`,
    Effect.gen(function*() {
      const path = "/sessions/expired"
      const { client, proxy, server, uri } = yield* place(path, [])
      const servers = yield* Effect.forEach([1, 2, 3], () => announced(uri))
      const live = servers.map(({ address }) => address)
      const observed = yield* observe(uri)
      yield* observed.shows(live, promptly)
      const calls = yield* load(uri)
      yield* calls.more(50)
      const nodes = yield* client.children(path)
      const since = observed.states.length
      yield* expire(server, proxy)
      assert.deepEqual(yield* client.children(path), [])
      yield* eventually(
        Effect.map(client.children(path), ({ length }) => length === 3),
        expiredBound,
        () => "they are not announced again"
      )
      yield* Effect.sleep("500 millis")
      const again = yield* client.children(path)
      assert.equal(again.length, 3)
      assert.deepEqual(again.filter((name) => nodes.includes(name)), [])
      yield* calls.more(50)
      yield* calls.stop
      yield* calls.unharmed
      yield* observed.kept(live, since)
      yield* observed.shows(live, promptly)
    }).pipe(withZooKeeper({ removals: "5 seconds", empty: "10 seconds" }))
  ),
  holds(
    "many expiries under load: each costs a read a member, and the last has the watches of the first",
    Effect.gen(function*() {
      const expiries = (yield* Full) ? 300 : 20
      const { proxy, server, uri } = yield* place("/sessions/soak", [])
      const direct = uri.replace(proxy.address, server.address)
      const servers = yield* withZooKeeper()(Effect.forEach([1, 2, 3], () => announced(direct)))
      const live = servers.map(({ address }) => address)
      const observed = yield* observe(uri)
      yield* observed.shows(live, promptly)
      const calls = yield* load(uri)
      yield* calls.more(50)
      const since = observed.states.length
      const watches = yield* server.watches
      for (let i = 0; i < expiries; i++) {
        const { id } = proxy.session()!
        yield* expire(server, proxy)
        // Not what it read while it fought for the session.
        proxy.forget()
        yield* eventually(
          Effect.map(server.watches, (count) => proxy.session()!.id !== id && count === watches),
          expiredBound,
          () => `after ${i + 1} expiries it does not watch what it watched`
        )
        // The set is followed twice: once to observe it, once to call.
        assert.equal(proxy.requests(Op.get), 2 * 3, `reads after ${i + 1} expiries`)
        assert.equal(proxy.requests(...childrenRead), 2)
      }
      yield* calls.more(50)
      yield* calls.stop
      yield* calls.unharmed
      yield* observed.kept(live, since)
      assert.equal(observed.states.length, since, "nothing has changed, so nothing is told")
    }).pipe(withZooKeeper()),
    "3 minutes"
  ),
  holds(
    "watches do not double: after 20 lost connections a change is told once and read once",
    Effect.gen(function*() {
      const path = "/sessions/doubled"
      const { client, keys, proxy, server, uri } = yield* place(path, [4001, 4002])
      const observed = yield* observe(uri)
      yield* observed.shows(keys, promptly)
      const watches = yield* server.watches
      const session = yield* sessionOf(proxy.address)
      const { id } = session.status()
      for (let i = 0; i < 20; i++) {
        const connections = proxy.connections()
        proxy.reset()
        yield* eventually(
          Effect.sync(() => proxy.connections() > connections && session.status().state === "Connected"),
          promptly,
          () => `it does not connect again: ${session.status().state}`
        )
      }
      yield* eventually(Effect.map(server.watches, (count) => count === watches), promptly, () => "watches are missing")
      assert.equal(session.status().id, id)
      proxy.forget()
      const states = observed.states.length
      yield* join(client, path, 4003)
      yield* observed.shows([...keys, keyOf(4003)], promptly)
      yield* Effect.sleep("300 millis")
      assert.equal(proxy.requests(Op.get), 1)
      assert.equal(proxy.requests(...childrenRead), 1)
      assert.equal(observed.states.length, states + 1)
    }).pipe(withZooKeeper())
  ),
  holds(
    `a partition is no silence: the session says within ${noticedBound} that it is disconnected`,
    Effect.gen(function*() {
      const { proxy } = yield* place("/sessions/silence", [])
      const session = yield* sessionOf(proxy.address)
      yield* connected(session)
      proxy.partition()
      yield* eventually(
        Effect.sync(() => session.status().state === "Disconnected"),
        noticedBound,
        () => `it says ${session.status().state}`
      )
      assert.ok(session.status().cause instanceof Error)
      proxy.heal()
      yield* connected(session)
    }).pipe(withZooKeeper())
  ),
  holds(
    "connections lost in the middle of requests crash nothing: each request ends, with its answer or what became of it",
    Effect.gen(function*() {
      const path = "/sessions/middle"
      const { proxy } = yield* place(path, [4001, 4002])
      const session = yield* sessionOf(proxy.address)
      let answered = 0
      let lost = 0
      const request = (i: number) =>
        Effect.exit<unknown, ZooKeeperError, never>(
          i % 2 === 0
            ? session.children(path, () => {})
            : session.create(`${path}/other_`, new Uint8Array(10), { mode: "ephemeralSequential" })
        ).pipe(Effect.tap((exit) =>
          Effect.sync(() => {
            if (Exit.isSuccess(exit)) answered++
            else {
              const [reason] = exit.cause.reasons
              assert.equal((reason as any).error?._tag, "ConnectionLoss", String(exit.cause))
              lost++
            }
          })
        ))
      for (let round = 0; round < 20; round++) {
        yield* connected(session)
        const all = Effect.forEach(Array.from({ length: 50 }, (_, i) => i), request, { concurrency: 50, discard: true })
        yield* Effect.all([all, Effect.andThen(Effect.sleep(round % 4), Effect.sync(proxy.reset))], { concurrency: 2 })
      }
      assert.equal(answered + lost, 20 * 50)
      assert.ok(lost > 0 && answered > 0, `${answered} answered, ${lost} lost`)
    }).pipe(withZooKeeper())
  ),
  holds(
    "a request into a connection that has just been reset ends no process, and takes no socket of somebody else's",
    Effect.gen(function*() {
      const path = "/sessions/reset"
      const { proxy, server } = yield* place(path, [4001])
      const session = yield* sessionOf(proxy.address)
      for (let round = 0; round < 10; round++) {
        yield* connected(session)
        const generation = session.status().generation
        // In one turn: it is sent before the loop can tell that the connection is gone, and fails on the spot.
        proxy.reset()
        const [exit] = yield* Effect.all([
          Effect.exit(session.children(path)),
          // Its socket gets the number of the one that was lost.
          Effect.scoped(Effect.flatMap(connect(server.port), (client) => client.children(path)))
        ], { concurrency: 2 })
        assert.match(String(exit), /ConnectionLoss/)
        yield* eventually(
          Effect.sync(() => session.status().generation > generation),
          promptly,
          () => "the session goes on over the connection that was lost"
        )
      }
      assert.equal((yield* session.children(path)).children.length, 1)
    }).pipe(withZooKeeper())
  ),
  holds(
    "a session that is closed leaves nothing at the server, and its announcements at once",
    Effect.gen(function*() {
      const path = "/sessions/closed"
      const { client, proxy, server } = yield* place(path, [])
      const left = Effect.map(
        server.facts,
        (facts) => ["zk_global_sessions", "zk_ephemerals_count", "zk_watch_count"].map((fact) => facts[fact]).join()
      )
      // The session of `client`, when those of other cases are gone.
      const nothing = "1,0,0"
      yield* eventually(
        Effect.map(left, (now) => now === nothing),
        "5 seconds",
        () => "sessions of other cases live on"
      )
      const { end } = yield* ending(
        Effect.gen(function*() {
          const uri = `zk://${proxy.address}${path}`
          const announcement = yield* ServerSet.announce(uri, Endpoint.tcp("127.0.0.1", 4001))
          yield* announcement.announced
          const observed = yield* observe(uri)
          yield* observed.shows([keyOf(4001)], promptly)
          return {}
        }).pipe(withZooKeeper())
      )
      assert.equal((yield* client.children(path)).length, 1)
      yield* end
      assert.deepEqual(yield* client.children(path), [])
      assert.equal(yield* left, nothing)
    })
  ),
  holds(
    "closing while the server is frozen holds nothing up: neither the scope nor the process",
    Effect.gen(function*() {
      const server = yield* zooKeeper
      const { end } = yield* ending(
        Effect.gen(function*() {
          yield* connected(yield* sessionOf(server.address))
          return {}
        }).pipe(withZooKeeper())
      )
      yield* server.freeze
      let longest = 0
      let last = performance.now()
      const timer = setInterval(() => {
        longest = Math.max(longest, performance.now() - last)
        last = performance.now()
      }, 5)
      const began = performance.now()
      yield* end
      const took = performance.now() - began
      yield* Effect.sleep("20 millis")
      clearInterval(timer)
      assert.ok(took < 2000, `closing took ${Math.round(took)} ms`)
      assert.ok(longest < 250, `the process stood still for ${Math.round(longest)} ms`)
    })
  ),
  holds(
    "a program ends by itself when its scope is closed: no thread, handle or timer is left",
    Effect.gen(function*() {
      const { server } = yield* place("/sessions/program", [])
      const args = [...process.execArgv, program, `zk://${server.address}/sessions/program`]
      const { code, output } = yield* execute(process.execPath, args).pipe(
        Effect.timeoutOrElse({
          duration: programBound,
          orElse: () => Effect.die(new assert.AssertionError({ message: "it does not end" }))
        })
      )
      assert.equal(code, 0, output)
      assert.match(output, /closed at \d+, and nothing else to do/)
    })
  )
])

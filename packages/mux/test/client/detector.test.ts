/** Pings as a failure detector: Finagle's numbers for one session, and what a whole stack makes of what they find. */
import { assert, describe, it } from "@effect/vitest"
import {
  type Call,
  classifyExit,
  describe as describeStack,
  Dispatcher,
  Endpoint,
  HeapBalancer,
  Requeue,
  Resurrector,
  type RpcError,
  ServerSet,
  SingletonPool,
  Stack
} from "@scales-rpc/core"
import { Seed } from "@scales-rpc/core/testing"
import { type Message, Mux, MuxTransport } from "@scales-rpc/mux"
import { RawPeer } from "@scales-rpc/mux/testing"
import { Context, Effect, Fiber, Layer, type Scope } from "effect"
import { TestClock } from "effect/testing"
import { utf8 } from "../vectors.ts"
import { Driven, ok, opened } from "./scripted.ts"

const tping: Message.Message = { _tag: "Tping", tag: 1 }
const rping: Message.Message = { _tag: "Rping", tag: 1 }

/** The numbers that Finagle tests its detector with. */
const quick = { pingIntervalMillis: 10, pingTimeoutMillis: 1000 }

const state = ({ session }: Driven) => session.status.state

describe("the detector of a session", () => {
  it("pings every 10 ms when it is to", async () => {
    const driven = await opened(quick)
    for (let pings = 2; pings < 102; pings++) {
      const rtt = pings % 10
      driven.time.advance(9 - (pings === 2 ? 0 : (pings - 1) % 10))
      assert.deepStrictEqual(await driven.take(), [])
      driven.time.advance(1)
      assert.deepStrictEqual(await driven.take(), [tping])
      assert.strictEqual(driven.counts.pings, pings)
      driven.time.advance(rtt)
      driven.deliver(rping)
    }
    await driven.finish()
  })

  it("never pings while an answer is due, and at once when that took longer than the period", async () => {
    const driven = await opened(quick)
    driven.time.advance(10)
    assert.deepStrictEqual(await driven.take(), [tping])
    for (let pings = 2; pings < 102; pings++) {
      driven.time.advance(500)
      assert.deepStrictEqual(await driven.take(), [])
      assert.strictEqual(driven.counts.pings, pings)
      driven.deliver(rping)
      driven.time.advance(0)
      assert.deepStrictEqual(await driven.take(), [tping])
    }
    await driven.finish()
  })

  it("bears an answer that takes longer each time, up to the last millisecond", async () => {
    const driven = await opened(quick)
    driven.time.advance(10)
    for (let delay = 10; delay < 1000; delay += 110) {
      driven.time.advance(0)
      assert.deepStrictEqual(await driven.take(), [tping])
      driven.time.advance(delay)
      driven.deliver(rping)
      assert.strictEqual(state(driven), "Open", `answered after ${delay} ms`)
    }
    assert.deepStrictEqual([driven.states, driven.counts.pingTimeouts], [["Open"], 0])
    await driven.finish()
  })

  it("closes the session after 1000 ms without an answer, not before, and says so once", async () => {
    const driven = await opened(quick)
    driven.time.advance(10)
    await driven.take()
    driven.time.advance(999)
    assert.strictEqual(state(driven), "Open")
    driven.time.advance(1)
    assert.strictEqual(state(driven), "Closed")
    assert.deepStrictEqual(driven.states, ["Open", "Closed"])
    assert.strictEqual(driven.counts.pingTimeouts, 1)
    await driven.finish()
  })

  it("is not changed by an answer that comes too late: the session stays closed, and pings no more", async () => {
    const driven = await opened(quick)
    driven.time.advance(10)
    await driven.take()
    driven.time.advance(1000)
    driven.deliver(rping)
    driven.time.advance(60_000)
    driven.deliver(rping)
    assert.strictEqual(state(driven), "Closed")
    assert.deepStrictEqual(await driven.take(), [])
    assert.deepStrictEqual([driven.counts.pings, driven.counts.pingTimeouts], [2, 1])
    await driven.finish()
  })

  it("finds out a server that does not even answer the first ping", async () => {
    const driven = new Driven(quick)
    driven.session.start()
    driven.deliver({ _tag: "Rerr", tag: 1, why: "tinit check" }, { _tag: "Rinit", tag: 1, version: 1, headers: [] })
    const sent = driven.send("hi")
    await driven.take()
    driven.time.advance(999)
    assert.strictEqual(state(driven), "Open")
    driven.time.advance(1)
    assert.deepStrictEqual([state(driven), sent.error._tag], ["Closed", "ConnectionClosed"])
    assert.deepStrictEqual([driven.counts.pings, driven.counts.pingTimeouts], [1, 1])
    await driven.finish()
  })
})

class Bytes extends Context.Service<Bytes, {
  readonly call: Effect.Effect<string, RpcError>
}>()("test/Bytes") {
  static readonly layer = Layer.effect(
    Bytes,
    Effect.gen(function*() {
      const sink = yield* Mux.Balanced
      const { dispatch } = yield* Dispatcher.make({ service: "bytes", timeout: "1 hour" })
      const method = { name: "call", idempotent: false, classify: classifyExit }
      const send = (call: Call) => sink.send({ body: utf8("hi") }, call)
      return Bytes.of({
        call: Effect.map(dispatch(method, send), ({ body }) => Buffer.from(body).toString())
      })
    })
  )
}

/** A server that answers calls with its name; whether it answers pings and calls is the test's to change. */
const serverNamed = (name: string) =>
  Effect.gen(function*() {
    const peer = yield* RawPeer.listen()
    const server = { peer, pongs: true, replies: true, pings: 0, requests: 0 }
    const heard: Array<() => void> = []
    const serve = (connection: Effect.Success<typeof peer.accept>) =>
      Effect.gen(function*() {
        yield* connection.acceptHandshake()
        for (;;) {
          const message = yield* connection.next()
          if (message._tag === "Tping") {
            server.pings++
            if (server.pongs) connection.send({ _tag: "Rping", tag: message.tag })
          } else if (message._tag === "Tdispatch") {
            server.requests++
            if (server.replies) connection.send(ok(message.tag, name))
          }
          for (const look of heard.splice(0)) look()
        }
      }).pipe(Effect.ignoreCause, Effect.forkScoped({ startImmediately: true }))
    yield* Effect.forkScoped(Effect.forever(Effect.flatMap(peer.accept, serve)), { startImmediately: true })
    /** Completes when what has come makes it true. */
    const until = (holds: () => boolean): Effect.Effect<void> =>
      Effect.callback((resume) => {
        const look = () => {
          if (holds()) resume(Effect.void)
          else heard.push(look)
        }
        look()
      })
    return Object.assign(server, { until })
  })

/** The default stack with Finagle's 5 s and 4 s, over real connections; time is the test's. */
const clientOf = (...servers: ReadonlyArray<{ readonly peer: RawPeer.RawPeer }>) =>
  Effect.map(
    Layer.build(
      Bytes.layer.pipe(
        Layer.provide(Requeue.layer(Mux)),
        Layer.provide(HeapBalancer.layer(Mux)),
        Layer.provide(Resurrector.layer(Mux)),
        Layer.provide(SingletonPool.layer(Mux)),
        Layer.provide(MuxTransport.layer()),
        Layer.provide(ServerSet.fixed(servers.map(({ peer }) => Endpoint.tcp("127.0.0.1", peer.port)))),
        Layer.provideMerge(Stack.layer("test", { drainTimeout: 0 })),
        Layer.provide(Seed.layer(1)),
        Layer.fresh
      )
    ),
    (context) => {
      const { call } = Context.get(context, Bytes)
      const stateOf = (role: string) =>
        describeStack(Context.get(context, Stack)).stages.find((node) => node.role === role)!.state as any
      return {
        call,
        /** Who answered so many calls, made at the same time, by name. */
        answered: (calls: number) =>
          Effect.map(
            Effect.all(Array.from({ length: calls }, () => call), { concurrency: "unbounded" }),
            (names) =>
              Object.fromEntries(
                [...new Set(names)].toSorted().map((name) => [name, names.filter((n) => n === name).length])
              )
          ),
        pingTimeouts: (): number => stateOf("transport").pingTimeouts,
        connects: (): number => stateOf("pool").connects,
        states: (): ReadonlyArray<string> =>
          stateOf("balancer").endpoints.map((each: { readonly state: string }) => each.state)
      }
    }
  )

const test = (name: string, body: () => Generator<Effect.Effect<any, any, any>, void>) =>
  it.effect(name, () => Effect.gen(body) as Effect.Effect<void, never, Scope.Scope>)

describe("a server that stops answering pings", () => {
  test("is left by the balancer when it is found out, and used again when it is back", function*() {
    const sick = yield* serverNamed("sick")
    const well = yield* serverNamed("well")
    const client = yield* clientOf(sick, well)
    assert.deepStrictEqual(yield* client.answered(10), { sick: 5, well: 5 })
    sick.pongs = false
    yield* TestClock.adjust(5000)
    yield* Effect.all([sick.until(() => sick.pings === 2), well.until(() => well.pings === 2)])
    // Answers keep their order: with these the answer to the ping has come. Nobody knows yet.
    assert.deepStrictEqual(yield* client.answered(10), { sick: 5, well: 5 })
    sick.replies = false
    const waiting = yield* Effect.forkChild(
      Effect.all([client.call, client.call].map(Effect.exit), { concurrency: 2 }),
      {
        startImmediately: true
      }
    )
    yield* sick.until(() => sick.requests === 11)
    yield* TestClock.adjust(3999)
    assert.deepStrictEqual([client.states(), client.pingTimeouts()], [["Open", "Open"], 0])
    yield* TestClock.adjust(1)
    assert.deepStrictEqual([client.states(), client.pingTimeouts()], [["Closed", "Open"], 1])
    // What was at it may have run: it fails, with why. The other was answered.
    const exits = (yield* Fiber.join(waiting)).map((exit) => String(exit))
    assert.lengthOf(exits.filter((exit) => exit.includes("no answer to a ping within 4000 ms")), 1)
    assert.deepStrictEqual(yield* client.answered(10), { well: 10 })
    sick.pongs = true
    sick.replies = true
    yield* TestClock.adjust(300)
    yield* sick.until(() => sick.pings === 3)
    assert.deepStrictEqual([client.states(), client.connects()], [["Open", "Open"], 3])
    assert.deepStrictEqual(yield* client.answered(10), { sick: 5, well: 5 })
  })

  test("does not lock a client out that has no other: its next call connects again", function*() {
    const only = yield* serverNamed("only")
    const client = yield* clientOf(only)
    assert.strictEqual(yield* client.call, "only")
    for (let time = 1; time <= 3; time++) {
      only.pongs = false
      yield* TestClock.adjust(5000)
      yield* only.until(() => only.pings === 2 * time)
      yield* TestClock.adjust(4000)
      assert.deepStrictEqual([client.states(), client.pingTimeouts()], [["Closed"], time])
      only.pongs = true
      assert.strictEqual(yield* client.call, "only")
      assert.strictEqual(client.connects(), 1 + time)
    }
  })
})

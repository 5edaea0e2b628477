/** The programs that the docs show, run as a reader would run them. */
import { assert, it } from "@effect/vitest"
import { Admin, type Page } from "@scales-rpc/admin"
import {
  Endpoint,
  RequestHeaders,
  Requeue,
  resolve,
  Resurrector,
  Rpc,
  ServerSet,
  ServerSetState,
  SingletonPool,
  Stack,
  Unsendable
} from "@scales-rpc/core"
import { Recorder, Scripted, ScriptedConnector, Seed, TestServerSet } from "@scales-rpc/core/testing"
import { Mux } from "@scales-rpc/mux"
import { Thrift } from "@scales-rpc/thrift"
import { ThriftMux, ThriftMuxServer } from "@scales-rpc/thriftmux"
import { Context, Effect, Fiber, Layer, Stream } from "effect"
import { TestClock } from "effect/testing"
import { createServer, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import { watched } from "../src/admin.ts"
import { byKey, Key } from "../src/balancer.ts"
import { Echo, echoHandlers } from "../src/echo.ts"
import * as Example from "../src/filter.ts"
import { RegistryResolver } from "../src/resolver.ts"
import { pathOf, run, start } from "./program.ts"

/** A client for as long as the test runs. */
const client = (uri: string) =>
  Effect.map(Layer.build(ThriftMux.layer(Echo, { uri })), (context) => Context.get(context, Echo))

it.live("client.ts calls a server and prints the reply", () =>
  Effect.gen(function*() {
    const { uri } = yield* ThriftMuxServer.make(Echo, echoHandlers())
    const { code, stderr, stdout } = yield* run(pathOf("src/client.ts"), [uri])
    assert.strictEqual(stderr, "")
    assert.strictEqual(code, 0)
    assert.match(stdout, /text: 'hi!'/)
  }))

it.live("framed.ts shares two connections, speaks two protocols, and sends what nobody answers", () =>
  Effect.gen(function*() {
    const { code, stderr, stdout } = yield* run(pathOf("src/framed.ts"))
    assert.strictEqual(stderr, "")
    assert.strictEqual(code, 0)
    assert.strictEqual(
      // Without what its server logs.
      stdout.replaceAll(/^\[.*\n/gm, ""),
      "binary: 8 replies over 2 connections\nheard: nobody answers this\ncompact: hi!\n"
    )
  }))

/**
 * Loads a program that serves Echo, and another server beside it, tells the program to stop with calls on it, and sees every call
 * answered, those of the load and one that only the program can answer.
 */
const losesNoCall = (program: string, args: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const stopping = yield* start(pathOf(program), args)
    const [, uri] = yield* stopping.line(/listening on (.*)\n/)
    const staying = yield* ThriftMuxServer.make(Echo, echoHandlers())
    const both = yield* client(`${uri},${staying.uri.slice("tcp://".length)}`)
    const direct = yield* client(uri!)

    let ok = 0
    let stopped = false
    const isStopped = () => stopped
    const caller = Effect.gen(function*() {
      while (!isStopped()) {
        assert.strictEqual(yield* both.slow(10), "slow")
        ok++
      }
    })
    const callers = yield* Effect.forkChild(
      Effect.all(Array.from({ length: 16 }, () => caller), { concurrency: "unbounded", discard: true })
    )
    const more = (count: number) =>
      Effect.suspend(() => {
        const goal = ok + count
        const enough = Effect.repeat(Effect.sleep("1 millis"), { until: () => ok >= goal })
        return Effect.raceFirst(enough, Fiber.join(callers))
      })
    yield* more(100)
    const last = yield* Effect.forkChild(direct.slow(800), { startImmediately: true })
    // Answered: the call before it, on the same connection, has come as well.
    yield* direct.ping()
    stopping.child.kill("SIGTERM")
    const [, outstanding] = yield* stopping.line(/draining, (\d+) calls to finish/)
    assert.isAbove(Number(outstanding), 0)
    assert.strictEqual(yield* Fiber.join(last), "slow")
    assert.strictEqual(yield* stopping.ended, 0)
    assert.match(stopping.stdout(), /drained\n$/)
    assert.strictEqual(stopping.stderr(), "")
    yield* more(100)
    stopped = true
    yield* Fiber.join(callers)
  })

it.live("server.ts loses no call when it gets SIGTERM under load", () => losesNoCall("src/server.ts", ["0"]))

it.live("shutdown.ts loses no call when it gets SIGTERM under load, nor those it makes for its callers", () =>
  Effect.gen(function*() {
    const behind = yield* ThriftMuxServer.make(Echo, echoHandlers())
    yield* losesNoCall("src/shutdown.ts", ["0", behind.uri])
    assert.isAbove(behind.counts.requests, 0)
  }))

it.live("filter.ts signs every call", () =>
  Effect.gen(function*() {
    const { uri } = yield* ThriftMuxServer.make(Echo, {
      ...echoHandlers(),
      seen: () =>
        Effect.map(Effect.service(Rpc.Inbound), (inbound) => JSON.stringify(inbound?.context.get(RequestHeaders)))
    })
    const EchoLive = ThriftMux.layer(Echo, { uri, above: Example.signed }).pipe(
      Layer.provide(Layer.succeed(Example.Token, { current: Effect.succeed("secret") }))
    )
    const call = Echo.use((echo) => echo.seen()).pipe(Rpc.context(RequestHeaders, [["lang", "en"]]))
    const seen = yield* Effect.provide(call, EchoLive)
    assert.deepStrictEqual(JSON.parse(seen), [["lang", "en"], ["authorization", "secret"]])
  }))

it.effect("filter.ts tells of slow attempts, whatever ended them", () =>
  Effect.gen(function*() {
    const told: Array<string> = []
    const EchoLive = ThriftMux.layer(Echo, {
      serverSet: ServerSet.fixed([Endpoint.tcp("a", 1)]),
      transport: Scripted.layer(Mux, () => Effect.never),
      below: Example.slow(30, ({ key }, millis) => told.push(`${key} ${millis}`))
    })
    const givingUpAfter = (millis: number) =>
      Effect.gen(function*() {
        const call = Effect.exit(Echo.use((echo) => echo.ping()).pipe(Rpc.deadline(millis)))
        const fiber = yield* Effect.forkChild(Effect.provide(call, EchoLive), { startImmediately: true })
        yield* TestClock.adjust(millis)
        yield* Fiber.join(fiber)
        return told
      })
    assert.deepStrictEqual(yield* givingUpAfter(30), [])
    assert.deepStrictEqual(yield* givingUpAfter(31), ["a:1 31"])
  }))

/** Calls of each key through `byKey`, over endpoints that tests move and break. */
const keyed = (first: ReadonlyArray<Endpoint>) => {
  const attempts: Array<Recorder.RecordedAttempt> = []
  const EchoLive = Thrift.client(Echo, Mux).pipe(
    Layer.provide(Requeue.layer(Mux)),
    Layer.provide(byKey(Mux)),
    Layer.provide(Recorder.below(Mux, attempts)),
    Layer.provide(Resurrector.layer(Mux)),
    Layer.provide(SingletonPool.layer(Mux)),
    Layer.provideMerge(Scripted.layer(Mux, () => Effect.fail(new Unsendable({ what: "a script", cause: undefined })))),
    Layer.provideMerge(TestServerSet.layer(first.length === 0 ? undefined : ServerSetState.Bound(first))),
    Layer.provide(Stack.layer("keyed")),
    Layer.provide(Seed.layer(1))
  )
  /** Where a call of each of 100 keys goes, last. */
  const places = Effect.gen(function*() {
    const echo = yield* Echo
    const found: Array<string> = []
    for (let key = 0; key < 100; key++) {
      yield* Effect.exit(echo.ping().pipe(Rpc.context(Key, `user ${key}`)))
      found.push(attempts.at(-1)!.endpoint)
    }
    return found
  })
  return { attempts, EchoLive, places }
}

const endpoints = (...hosts: ReadonlyArray<string>) => hosts.map((host) => Endpoint.tcp(host, 1))

it.effect("balancer.ts sends the calls of a key to one endpoint, and moves no other key's when one leaves", () => {
  const { EchoLive, places } = keyed(endpoints("a", "b", "c", "d"))
  return Effect.gen(function*() {
    const before = yield* places
    assert.deepStrictEqual(yield* places, before)
    for (const { key } of endpoints("a", "b", "c", "d")) {
      assert.isAbove(before.filter((place) => place === key).length, 10, key)
    }
    yield* (yield* TestServerSet).bind(endpoints("a", "b", "c"))
    yield* Effect.yieldNow
    const after = yield* places
    assert.notInclude(after, "d:1")
    assert.deepStrictEqual(after.map((place, key) => before[key] === "d:1" ? "d:1" : place), before)
    assert.deepStrictEqual((yield* ScriptedConnector).live().map(({ endpoint }) => endpoint.host).toSorted(), [
      "a",
      "b",
      "c"
    ])
  }).pipe(Effect.provide(EchoLive))
})

it.effect("balancer.ts goes elsewhere while an endpoint is down, and back when it is up", () => {
  const { attempts, EchoLive, places } = keyed(endpoints("a", "b"))
  return Effect.gen(function*() {
    const script = yield* ScriptedConnector
    const before = yield* places
    script.refuse("a:1")
    script.breakAll("a:1")
    assert.deepStrictEqual(new Set(yield* places), new Set(["b:1"]))
    script.accept("a:1")
    yield* TestClock.adjust("1 minute")
    assert.deepStrictEqual(yield* places, before)
    assert.deepStrictEqual(attempts.filter(({ outcome }) => outcome === undefined), [])
  }).pipe(Effect.provide(EchoLive))
})

it.effect("balancer.ts waits for a server set no longer than the call's deadline", () => {
  const { EchoLive } = keyed([])
  return Effect.gen(function*() {
    const echo = yield* Echo
    const begin = Effect.forkChild(Effect.flip(echo.ping().pipe(Rpc.deadline("1 second"))), { startImmediately: true })
    const late = yield* begin
    yield* TestClock.adjust("1 second")
    assert.deepInclude(yield* Fiber.join(late), { _tag: "Timeout", reached: "no" })
    const answered = yield* begin
    yield* (yield* TestServerSet).bind(endpoints("a"))
    assert.deepInclude(yield* Fiber.join(answered), { _tag: "Unsendable" })
    yield* (yield* TestServerSet).bind([])
    yield* Effect.yieldNow
    assert.deepInclude(yield* Effect.flip(echo.ping()), { _tag: "NoEndpoints" })
  }).pipe(Effect.provide(EchoLive))
})

/** A registry over HTTP that says what a test tells it to. */
const registry = Effect.acquireRelease(
  Effect.callback<{ readonly port: number; says: readonly [status: number, body: string]; readonly server: Server }>(
    (resume) => {
      const server = createServer((_request, response) => {
        const [status, body] = registry.says
        response.writeHead(status, { connection: "close" }).end(body)
      })
      const registry = { port: 0, says: [200, ""] as readonly [number, string], server }
      server.listen(0, "127.0.0.1", () => {
        registry.port = (server.address() as AddressInfo).port
        resume(Effect.succeed(registry))
      })
    }
  ),
  ({ server }) => Effect.sync(() => server.close())
)

it.live("resolver.ts follows the endpoints that a registry lists, and keeps them while it cannot be asked", () =>
  Effect.gen(function*() {
    const names = yield* registry
    const serve = (name: string) =>
      Effect.map(
        ThriftMuxServer.make(Echo, { ...echoHandlers(), ping: () => Effect.succeed(name) }),
        ({ address }) => `127.0.0.1:${address.port}\n`
      )
    const a = yield* serve("a")
    const b = yield* serve("b")
    names.says = [200, a]
    const EchoLive = ThriftMux.layer(Echo, { uri: `registry://127.0.0.1:${names.port}/echo` }).pipe(
      Layer.provide(RegistryResolver("5 millis"))
    )
    yield* Effect.provide(
      Effect.gen(function*() {
        const echo = yield* Echo
        assert.strictEqual(yield* echo.ping(), "a")
        names.says = [200, b]
        yield* Effect.repeat(echo.ping(), { until: (name) => name === "b" })
        names.says = [500, "out of order"]
        for (let call = 0; call < 100; call++) assert.strictEqual(yield* echo.ping(), "b")
      }),
      EchoLive
    )
  }))

it.live("resolver.ts tells an unknown name from a registry that cannot be asked", () =>
  Effect.gen(function*() {
    const names = yield* registry
    const state = Effect.map(
      Effect.flatMap(resolve(`registry://127.0.0.1:${names.port}/echo`), Stream.runHead),
      (first) => first._tag === "Some" ? first.value._tag : "no state"
    )
    const answers = [[404, ""], [500, ""], [200, "no port\n"], [200, ""]] as const
    const states = []
    for (const answer of answers) {
      names.says = answer
      states.push(yield* state)
    }
    assert.deepStrictEqual(states, ["Neg", "Failed", "Failed", "Bound"])
    yield* Effect.sync(() => names.server.close())
    assert.strictEqual(yield* state, "Failed")
    assert.strictEqual((yield* Effect.flip(resolve("registry://")))._tag, "InvalidUri")
  }).pipe(Effect.provide(RegistryResolver())))

it.live("admin.ts serves a page of a client and a server", () =>
  Effect.gen(function*() {
    const context = yield* Layer.build(watched(0))
    const { url } = Context.get(context, Admin)
    const page = yield* Effect.promise(async (): Promise<Page> => (await fetch(`${url}/stacks.json`)).json() as never)
    assert.deepStrictEqual(page.clients.map(({ id }) => id), ["echo"])
    assert.deepStrictEqual(page.servers.map(({ id }) => id), ["echo server"])
  }))

/** HTTP on a network in memory: the real client and Node's own server, under the clock of the test. */
import { assert, it } from "@effect/vitest"
import { describe as describeStack, Rpc, Stacks } from "@scales-rpc/core"
import { listen } from "@scales-rpc/core/socket"
import { MemoryNetwork, Seed } from "@scales-rpc/core/testing"
import { Http } from "@scales-rpc/http"
import { Clock, Effect, Fiber, Layer } from "effect"
import { TestClock } from "effect/testing"
import * as NodeHttp from "node:http"
import * as NodeHttp2 from "node:http2"
import type * as Net from "node:net"

it.effect("calls are answered, time out, and their connections are cut", () =>
  Effect.gen(function*() {
    const network = yield* MemoryNetwork
    const server = NodeHttp.createServer((request, response) => {
      if (request.url === "/hang") return
      response.end(`${request.method} ${request.url}`)
    })
    yield* listen({ host: "users", port: 80 }, (socket) => void server.emit("connection", socket))
    const context = yield* Layer.build(Http.layer("users", { uri: "tcp://users:80" }))
    const users = yield* Effect.provide(Effect.service(Http.Client), context)
    assert.strictEqual((yield* users.get("/a")).text, "GET /a")
    assert.strictEqual((yield* users.get("/b")).text, "GET /b")
    assert.lengthOf(network.open("users:80"), 1)
    const call = yield* Effect.forkChild(Effect.flip(users.post("/hang").pipe(Rpc.deadline("1 second"))), {
      startImmediately: true
    })
    yield* TestClock.adjust("1 second")
    assert.strictEqual((yield* Fiber.join(call))._tag, "Timeout")
    yield* TestClock.adjust("1 millis")
    assert.lengthOf(network.open("users:80"), 0)
    assert.strictEqual((yield* users.get("/c")).text, "GET /c")
    assert.lengthOf(network.connections, 2)
  }).pipe(Effect.provide([MemoryNetwork.layer, Seed.layer(1)])))

it.effect("the clock waits for what calls do, one after the other", () =>
  Effect.gen(function*() {
    const network = yield* MemoryNetwork
    const context = yield* Effect.context<never>()
    const clock = yield* Clock.Clock
    const served: Array<number> = []
    const server = NodeHttp.createServer((_, response) => {
      served.push(clock.currentTimeMillisUnsafe())
      Effect.runForkWith(context)(Effect.andThen(Effect.sleep("10 millis"), Effect.sync(() => response.end("x"))))
    })
    yield* listen({ host: "users", port: 80 }, (socket) => void server.emit("connection", socket))
    const client = yield* Layer.build(Http.layer("users", { uri: "tcp://users:80" }))
    const call = Effect.andThen(
      Effect.sleep("7 millis"),
      Effect.flatMap(Http.Client, (users) => users.get("/")).pipe(Rpc.deadline("11 millis"), Effect.provide(client))
    )
    const calls = yield* Effect.forkChild(Effect.forEach(Array.from({ length: 40 }), () => call), {
      startImmediately: true
    })
    yield* network.adjust(40 * 17 - 1)
    assert.isUndefined(calls.pollUnsafe())
    yield* network.adjust("1 millis")
    assert.lengthOf(yield* Fiber.join(calls), 40)
    assert.deepStrictEqual(served, Array.from({ length: 40 }, (_, index) => index * 17 + 7))
    assert.lengthOf(network.connections, 1)
  }).pipe(Effect.provide([MemoryNetwork.layer, Seed.layer(1)])))

/** A client of HTTP/2 of a server that leaves `/hang` without an answer. */
const overHttp2 = Effect.gen(function*() {
  let connections = 0
  const server = NodeHttp2.createServer((request, response) => {
    if (request.url !== "/hang") response.end("ok")
  })
  const listening = yield* listen({ host: "127.0.0.1" }, (socket) => {
    connections++
    server.emit("connection", socket)
  })
  const { port } = listening.address() as Net.AddressInfo
  const context = yield* Layer.build(
    Http.layer("users", { uri: `tcp://127.0.0.1:${port}`, http2: true }).pipe(Layer.provideMerge(Stacks.layer))
  )
  const users = yield* Effect.provide(Effect.service(Http.Client), context)
  const [stack] = (yield* Effect.provide(Effect.service(Stacks), context)).list()
  const transport = () =>
    describeStack(stack!).stages.find(({ role }) => role === "transport")!.state as {
      readonly receivedBytes: number
      readonly sentBytes: number
    }
  const hang = (during: Effect.Effect<unknown, unknown>) =>
    Effect.gen(function*() {
      const call = yield* Effect.forkChild(Effect.flip(users.get("/hang").pipe(Rpc.deadline("1 second"))), {
        startImmediately: true
      })
      yield* during
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Fiber.join(call))._tag, "Timeout")
    })
  const seen: Array<number> = []
  const get = Effect.tap(users.get("/"), () => Effect.sync(() => void seen.push(connections)))
  yield* get
  const before = transport()
  yield* hang(Effect.andThen(get, get))
  yield* get
  yield* hang(Effect.void)
  yield* get
  const { receivedBytes, sentBytes } = transport()
  assert.isAbove(before.receivedBytes, 0)
  assert.isAbove(receivedBytes, before.receivedBytes)
  assert.isAbove(sentBytes, before.sentBytes)
  return seen
})

it.effect("a connection of HTTP/2 is given up when nothing came on it, in memory as on a socket", () =>
  Effect.gen(function*() {
    const socket = yield* Effect.scoped(overHttp2)
    const memory = yield* Effect.scoped(overHttp2).pipe(Effect.provide(MemoryNetwork.layer))
    assert.deepStrictEqual(socket, [1, 1, 1, 1, 2])
    assert.deepStrictEqual(memory, socket)
  }).pipe(Effect.provide(Seed.layer(1))))

import {
  classifyExit,
  Dispatcher,
  PromiseClient,
  Rpc,
  type RpcError,
  Stack,
  StackClosed,
  Timeout
} from "@scales-rpc/core"
import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Layer } from "effect"

class Echo extends Context.Service<Echo, {
  readonly echo: (text: string) => Effect.Effect<string, RpcError>
  readonly wait: () => Effect.Effect<string, RpcError>
  readonly crash: () => Effect.Effect<never>
  readonly version: number
}>()("test/Echo") {}

/** A service with a dispatcher, so that it drains like every client; `wait` ends when `answer` is called. */
const service = () => {
  const reply = Deferred.makeUnsafe<string>()
  const seen = { builds: 0, released: 0, interrupted: 0 }
  const layer = Layer.effect(
    Echo,
    Effect.gen(function*() {
      seen.builds++
      yield* Effect.addFinalizer(() => Effect.sync(() => void seen.released++))
      const { dispatch } = yield* Dispatcher.make({ service: "echo", timeout: "10 seconds" })
      const method = { name: "echo", idempotent: false, classify: classifyExit }
      return Echo.of({
        echo: (text) =>
          dispatch(method, (call) => Effect.succeed(`${text}, ${call.deadline < Date.now() + 5000 ? "soon" : "late"}`)),
        wait: () =>
          dispatch(
            method,
            () => Effect.onInterrupt(Deferred.await(reply), () => Effect.sync(() => void seen.interrupted++))
          ),
        crash: () => Effect.die(new RangeError("no")),
        version: 1
      })
    })
  ).pipe(Layer.provide(Stack.layer("echo")))
  return { layer, seen, answer: (text: string) => Deferred.doneUnsafe(reply, Effect.succeed(text)) }
}

const rejection = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then((value) => assert.fail(`resolved with ${String(value)}`), (error: unknown) => error)

describe("a promise client", () => {
  it("builds its layer at the first call, once", async () => {
    const { layer, seen } = service()
    const { client, close } = PromiseClient.make(Echo, layer)
    assert.strictEqual(seen.builds, 0)
    assert.deepStrictEqual(await Promise.all([client.echo("a"), client.echo("b")]), ["a, late", "b, late"])
    assert.strictEqual(await client.echo("c"), "c, late")
    assert.strictEqual(seen.builds, 1)
    await close()
    assert.strictEqual(seen.released, 1)
  })

  it("has the methods of the service and nothing else", () => {
    const client: { readonly echo: (text: string) => Promise<string>; readonly wait: () => Promise<string> } =
      PromiseClient
        .make(Echo, service().layer).client
    // @ts-expect-error no method
    void client.version
    // @ts-expect-error no such method
    void client.missing
    // @ts-expect-error an argument of another type
    void (() => client.echo(1))
    assert.strictEqual(client.echo, client.echo)
  })

  it("rejects with the typed error itself", async () => {
    const failure = new Timeout({
      timeoutMillis: 1,
      waiting: "reply",
      reached: "maybe",
      endpoint: undefined,
      cause: undefined
    })
    const { client } = PromiseClient.make(
      Echo,
      Layer.succeed(Echo, {
        echo: () => Effect.fail(failure),
        wait: () => Effect.never,
        crash: () => Effect.never,
        version: 1
      })
    )
    assert.strictEqual(await rejection(client.echo("a")), failure)
    assert.strictEqual(await rejection(client.echo("a")), failure)
  })

  it("rejects with a defect, and with one that names an unknown method", async () => {
    const { client, close } = PromiseClient.make(Echo, service().layer)
    assert.instanceOf(await rejection(client.crash()), RangeError)
    const unknown = await rejection((client as unknown as { readonly nope: () => Promise<void> }).nope())
    assert.match(String(unknown), /test\/Echo has no method "nope"/)
    await close()
  })

  it("rejects every call with why the layer cannot be built", async () => {
    const { client, close } = PromiseClient.make(Echo, Layer.effect(Echo, Effect.fail("no such server" as const)))
    assert.strictEqual(await rejection(client.echo("a")), "no such server")
    assert.strictEqual(await rejection(client.echo("b")), "no such server")
    await close()
  })

  it("drains on close: outstanding calls end, new ones are refused, and all who close wait", async () => {
    const { answer, layer, seen } = service()
    const { client, close, run } = PromiseClient.make(Echo, layer)
    await client.echo("build")
    const waiting = client.wait()
    const closed = [close(), close()]
    const late = await rejection(client.echo("late"))
    assert.instanceOf(late, StackClosed)
    assert.strictEqual((late as StackClosed).reached, "no")
    assert.instanceOf(await rejection(run(Effect.void)), StackClosed)
    assert.strictEqual(seen.released, 0)
    answer("in time")
    assert.strictEqual(await waiting, "in time")
    await Promise.all(closed)
    assert.deepStrictEqual(seen, { builds: 1, released: 1, interrupted: 0 })
    assert.instanceOf(await rejection(client.echo("after")), StackClosed)
  })

  it("can be closed before it was used, and while it is being built", async () => {
    const unused = service()
    await PromiseClient.make(Echo, unused.layer).close()
    assert.strictEqual(unused.seen.builds, 0)

    let interrupted = false
    const never = Layer.effect(
      Echo,
      Effect.onInterrupt(Effect.never, () =>
        Effect.sync(() => {
          interrupted = true
        }))
    )
    const building = PromiseClient.make(Echo, never)
    const call = rejection(building.client.echo("a"))
    await building.close()
    assert.instanceOf(await call, StackClosed)
    assert.isTrue(interrupted)
  })

  it("runs effects that use the service: options by pipe, an abort signal", async () => {
    const { layer, seen } = service()
    const { close, run } = PromiseClient.make(Echo, layer)
    assert.strictEqual(
      await run(Effect.flatMap(Echo, (echo) => echo.echo("a").pipe(Rpc.deadline("1 second")))),
      "a, soon"
    )
    const leaving = new AbortController()
    const call = rejection(run(Effect.flatMap(Echo, (echo) => echo.wait()), { signal: leaving.signal }))
    leaving.abort()
    await call
    assert.strictEqual(seen.interrupted, 1)
    await close()
  })

  it("is no promise, prints and turns into JSON without calling anything", async () => {
    const { layer, seen } = service()
    const { client } = PromiseClient.make(Echo, layer)
    assert.strictEqual(await (client as unknown), client)
    assert.strictEqual(String(client as unknown), "[object Object]")
    assert.strictEqual(JSON.stringify(client), "{}")
    assert.strictEqual(seen.builds, 0)
  })
})

import { assert, describe, it } from "@effect/vitest"
import {
  abortFailure,
  type Attempt,
  type Call,
  classifyExit,
  describe as describeStack,
  Dispatcher,
  Filter,
  Nacked,
  NoEndpoints,
  Rpc,
  type RpcError,
  Stack
} from "@scales-rpc/core"
import { ScriptedConnector, TestServerSet } from "@scales-rpc/core/testing"
import { Cause, Deferred, Effect, Exit, Fiber, Layer, Metric, Scope } from "effect"
import { TestClock } from "effect/testing"
import { seen } from "./seen.ts"
import { endpoints, settle, stack, start, stop, Text, TextClient } from "./support.ts"

/** In a registry of its own. */
const alone = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.suspend(() => Effect.provideService(self, Metric.MetricRegistry, new Map()))

const method: Dispatcher.CalledMethod = { name: "call", idempotent: false, classify: classifyExit }

/** Waits for the abort of a call, as a stage of ours does, and says where it was. */
const hanging = (call: Call): Effect.Effect<never, RpcError> =>
  Effect.callback((resume) => {
    const listener = {
      onAbort: (reason: NonNullable<Call["abort"]["reason"]>) =>
        resume(Effect.fail(abortFailure(reason, { waiting: "queue", reached: "no" })))
    }
    call.abort.on(listener)
    return Effect.sync(() => call.abort.off(listener))
  })

/** A dispatcher alone. */
const dispatcher = (drainTimeout: string = "3 seconds") =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const context = yield* Layer.buildWithScope(
      Stack.layer("text", { drainTimeout: drainTimeout as "3 seconds" }),
      scope
    )
    const shared = yield* Effect.provideContext(Stack, context)
    const { dispatch } = yield* Dispatcher.make({ service: "text", timeout: "10 seconds" }).pipe(
      Effect.provideContext(context),
      Scope.provide(scope)
    )
    const counts = () => shared.nodes().find(({ role }) => role === "dispatcher")!.snapshot()
    return { close: Scope.close(scope, Exit.void), counts, dispatch, stack: shared }
  })

const idle = { outstanding: 0 }

describe("the tag of an error", () => {
  it.effect("is a label, and may be called as something that every object has", () =>
    Effect.gen(function*() {
      const { counts, dispatch } = yield* dispatcher()
      const tags = ["constructor", "constructor", "toString", "__proto__", "t".repeat(100_000), Object.create(null), 7]
      for (const _tag of tags) yield* Effect.exit(dispatch(method, () => Effect.fail({ _tag })))
      const failures = {
        constructor: 2,
        toString: 1,
        ["__proto__"]: 1,
        ["t".repeat(100)]: 1,
        "what has no text": 1,
        7: 1
      }
      const state = counts() as { readonly failures: unknown; readonly methods: { readonly call: object } }
      assert.deepStrictEqual(state.failures, failures)
      assert.deepInclude(state.methods.call, { failures })
      const series = Object.keys(yield* seen("scales.call.failures"))
      for (const tag of Object.keys(failures)) assert.include(series.join("\n"), `error=${tag} `)
      assert.isBelow(Math.max(...series.map(({ length }) => length)), 200)
    }).pipe(alone))
})

describe("a dispatcher that has closed before its stack", () => {
  it.effect("leaves no series behind when it is called", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { dispatch } = yield* Dispatcher.make({ service: "text", timeout: "10 seconds" }).pipe(Scope.provide(scope))
      yield* dispatch(method, () => Effect.void)
      assert.isNotEmpty(yield* seen("scales.call"))
      yield* Scope.close(scope, Exit.void)
      for (const name of ["call", "another"]) {
        const exit = yield* Effect.exit(dispatch({ ...method, name }, () => Effect.void))
        assert.isTrue(Exit.isFailure(exit))
      }
      assert.deepStrictEqual(yield* seen("scales.call"), {})
      assert.isNotEmpty(yield* seen("scales.stack"))
    }).pipe(Effect.provide(Stack.layer("text")), alone))
})

describe("a dispatcher", () => {
  it.effect("makes a call of what is known of the method and what the caller said", () =>
    Effect.gen(function*() {
      const { dispatch } = yield* dispatcher()
      const classify = () => "success" as const
      const calls = [
        yield* dispatch({ name: "get", idempotent: true, classify }, Effect.succeed),
        yield* dispatch(method, Effect.succeed).pipe(Rpc.idempotent, Rpc.deadline("1 second"))
      ]
      const plain = calls.map(({ deadline, idempotent, method, service, tried }) => ({
        deadline,
        idempotent,
        method,
        service,
        tried
      }))
      assert.deepStrictEqual(plain, [
        { service: "text", method: "get", idempotent: true, deadline: 10_000, tried: [] },
        { service: "text", method: "call", idempotent: true, deadline: 1_000, tried: [] }
      ])
      assert.strictEqual(calls[0]!.classify, classify)
      assert.notStrictEqual(calls[0]!.abort, calls[1]!.abort)
    }))

  it.effect("counts calls, successes and failures by their tag, and what is outstanding", () =>
    Effect.gen(function*() {
      const { counts, dispatch, stack } = yield* dispatcher()
      yield* dispatch(method, () => Effect.succeed(1))
      yield* Effect.exit(dispatch(method, () => Effect.fail(new NoEndpoints({ stack: "text", cause: undefined }))))
      yield* Effect.exit(dispatch(method, () => Effect.fail(new NoEndpoints({ stack: "text", cause: undefined }))))
      yield* Effect.exit(dispatch(method, () => Effect.fail("text")))
      yield* Effect.exit(dispatch(method, () => Effect.die("defect")))
      const fiber = yield* start(dispatch(method, () => Effect.never))
      assert.deepInclude(counts() as object, { calls: 6, outstanding: 1 })
      assert.strictEqual(stack.deadlines.size, 1)
      yield* stop(fiber)
      const failures = { NoEndpoints: 2, Unknown: 1, Defect: 1, Interrupted: 1 }
      const { methods, ...all } = counts() as { readonly methods: { readonly call: object } }
      assert.deepStrictEqual(all, { calls: 6, successes: 1, outstanding: 0, failures } as never)
      assert.deepInclude(methods.call, { requests: 6, successes: 1, pending: 0, failures })
      assert.strictEqual(stack.deadlines.size, 0)
    }))

  it.effect("ends a call at its deadline, with the words of the wait it was in", () =>
    Effect.gen(function*() {
      const { counts, dispatch, stack } = yield* dispatcher()
      const fiber = yield* start(Effect.flip(dispatch(method, hanging)))
      yield* TestClock.adjust("9999 millis")
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.deepInclude(yield* Fiber.join(fiber), { _tag: "Timeout", timeoutMillis: 10_000, waiting: "queue" })
      assert.deepInclude(counts() as object, { ...idle, failures: { Timeout: 1 } })
      assert.strictEqual(stack.deadlines.size, 0)
    }))

  it.effect("leaves nothing behind when what it runs throws", () =>
    Effect.gen(function*() {
      const { counts, dispatch, stack } = yield* dispatcher()
      const exit = yield* Effect.exit(dispatch(method, () => {
        throw new Error("an encoder's own")
      }))
      assert.include(Exit.isFailure(exit) && String(Cause.squash(exit.cause)), "an encoder's own")
      assert.deepInclude(counts() as object, { calls: 1, ...idle, failures: { Defect: 1 } })
      assert.strictEqual(stack.deadlines.size, 0)
    }))

  it.effect("runs the same effect as often as it is run, each time as a call of its own", () =>
    Effect.gen(function*() {
      const { counts, dispatch } = yield* dispatcher()
      const once = dispatch(method, Effect.succeed)
      const calls = [yield* once, yield* once]
      assert.notStrictEqual(calls[0], calls[1])
      assert.deepInclude(counts() as object, { calls: 2, successes: 2, ...idle })
    }))

  it.effect("refuses a timeout that is none", () =>
    Effect.gen(function*() {
      for (const timeout of [0, Infinity, -1]) {
        const error = yield* Effect.flip(
          Effect.scoped(Dispatcher.make({ service: "text", timeout })).pipe(Effect.provide(Stack.layer("text")))
        )
        assert.strictEqual(error.option, "timeout")
      }
    }))
})

describe("a reply whose body outlives its send", () => {
  const held = (script: { answer: unknown }, ends: Array<() => void>) => {
    const typed = script as { answer: (request: string, attempt: Attempt) => Effect.Effect<string> }
    typed.answer = (_, attempt) => {
      const release = attempt.hold()
      const listener = {
        onAbort: () => {
          ends.push(() => {})
          release("failure")
        }
      }
      attempt.abort.on(listener)
      ends.push(() => {
        attempt.abort.off(listener)
        release("success")
      })
      return Effect.succeed("head")
    }
  }
  const load = Effect.map(Stack, (shared) => {
    const state = (role: string) => shared.nodes().find((node) => node.role === role)!.snapshot()
    const { endpoints } = state("balancer") as { endpoints: ReadonlyArray<{ load: number }> }
    return [(state("dispatcher") as { outstanding: number }).outstanding, endpoints[0]!.load, shared.deadlines.size]
  })

  it.effect("keeps its call outstanding, its endpoint loaded and its deadline armed until it ends", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const ends: Array<() => void> = []
      held(yield* ScriptedConnector, ends)
      yield* (yield* TestServerSet).bind(endpoints(1))
      assert.strictEqual(yield* client.call("hi"), "head")
      assert.deepStrictEqual(yield* load, [1, 1, 1])
      ends[0]!()
      ends[0]!()
      assert.deepStrictEqual(yield* load, [0, 0, 0])
    }).pipe(Effect.provide(stack())))

  it.effect("that does not come to its end is no success: a failure that broke it, an interruption that its caller left it", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      let releases: Array<ReturnType<Attempt["hold"]>> = []
      script.answer = (_, attempt) => {
        releases = [attempt.hold(), attempt.hold()]
        return Effect.succeed("head")
      }
      yield* (yield* TestServerSet).bind(endpoints(1))
      for (const outcome of ["failure", "failure", "ignored", "success"] as const) {
        yield* client.call("hi")
        releases[0]!("success")
        releases[1]!(outcome)
      }
      // What an attempt held that failed is not the call's.
      script.answer = (_, attempt) => {
        const release = attempt.hold()
        if (attempt.number > 0) return Effect.succeed("whole")
        release("failure")
        return Effect.fail(new Nacked({ endpoint: attempt.endpoint, why: "", retryable: true }))
      }
      const fiber = yield* start(client.call("hi"))
      yield* TestClock.adjust("10 seconds")
      yield* Fiber.join(fiber)
      const dispatcher = describeStack(yield* Stack).stages.find(({ role }) => role === "dispatcher")!
      assert.deepInclude(dispatcher.state as object, {
        calls: 5,
        successes: 1,
        failures: { ReplyBroken: 2, Interrupted: 1, Timeout: 1 },
        outstanding: 0
      })
    }).pipe(Effect.provide(stack())))

  it.effect("is ended by the deadline of its call", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const ends: Array<() => void> = []
      held(yield* ScriptedConnector, ends)
      yield* (yield* TestServerSet).bind(endpoints(1))
      yield* client.call("hi")
      yield* TestClock.adjust("9999 millis")
      assert.lengthOf(ends, 1)
      yield* TestClock.adjust("1 millis")
      assert.lengthOf(ends, 2)
      assert.deepStrictEqual(yield* load, [0, 0, 0])
    }).pipe(Effect.provide(stack())))

  it.effect("whose holder does not care is ended all the same, by the deadline and by closing", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(stack({ stack: { drainTimeout: "3 seconds" } }), scope)
      yield* Effect.provideContext(
        Effect.gen(function*() {
          const client = yield* TextClient
          const script = yield* ScriptedConnector
          script.answer = (_, attempt) => {
            attempt.hold()
            return Effect.succeed("head")
          }
          yield* (yield* TestServerSet).bind(endpoints(1))
          yield* client.call("hi")
          yield* TestClock.adjust("10 seconds")
          assert.deepStrictEqual(yield* load, [0, 0, 0])
          const dispatcher = describeStack(yield* Stack).stages.find(({ role }) => role === "dispatcher")!
          assert.deepInclude(dispatcher.state as object, { successes: 0, failures: { Timeout: 1 } })
          yield* client.call("again")
        }),
        context
      )
      const closing = yield* start(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("3 seconds")
      yield* settle
      assert.isDefined(closing.pollUnsafe())
    }))

  it.effect("is waited for when the stack drains", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(stack({ stack: { drainTimeout: "3 seconds" } }), scope)
      const ends: Array<() => void> = []
      yield* Effect.provideContext(
        Effect.gen(function*() {
          held(yield* ScriptedConnector, ends)
          yield* (yield* TestServerSet).bind(endpoints(1))
          yield* (yield* TextClient).call("hi")
        }),
        context
      )
      const closing = yield* start(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("2999 millis")
      assert.isUndefined(closing.pollUnsafe())
      ends[0]!()
      yield* settle
      assert.isDefined(closing.pollUnsafe())
    }))
})

describe("closing a dispatcher", () => {
  it.effect("takes no time when nothing is outstanding, and refuses calls from then on", () =>
    Effect.gen(function*() {
      const { close, dispatch } = yield* dispatcher()
      yield* dispatch(method, () => Effect.succeed(1))
      yield* close
      const error = yield* Effect.flip(dispatch(method, () => Effect.succeed(1)))
      assert.deepInclude(error, { _tag: "StackClosed", reached: "no" })
      assert.strictEqual(error.message, `client "text" is closed`)
    }))

  it.effect("waits for the last call to end, and no longer", () =>
    Effect.gen(function*() {
      const { close, dispatch } = yield* dispatcher()
      const replies = [Deferred.makeUnsafe<string>(), Deferred.makeUnsafe<string>()]
      const calls = yield* Effect.forEach(replies, (reply) => start(dispatch(method, () => Deferred.await(reply))))
      const closing = yield* start(close)
      yield* TestClock.adjust("1 second")
      yield* Deferred.succeed(replies[0]!, "a")
      yield* settle
      assert.isUndefined(closing.pollUnsafe())
      yield* TestClock.adjust("1 second")
      yield* Deferred.succeed(replies[1]!, "b")
      yield* Fiber.join(closing)
      assert.deepStrictEqual(yield* Effect.forEach(calls, Fiber.join), ["a", "b"])
    }))

  it.effect("aborts what is still outstanding when the drain has taken its time", () =>
    Effect.gen(function*() {
      const { close, counts, dispatch, stack } = yield* dispatcher("3 seconds")
      const calls = yield* Effect.forEach(
        [1, 2, 3],
        () => start(Effect.flip(dispatch(method, hanging)))
      )
      const closing = yield* start(close)
      yield* settle
      const snapshot = counts
      yield* TestClock.adjust("2999 millis")
      assert.deepStrictEqual(calls.map((call) => call.pollUnsafe()), [undefined, undefined, undefined])
      assert.deepInclude(snapshot() as object, { outstanding: 3 })
      yield* TestClock.adjust("1 millis")
      for (const error of yield* Effect.forEach(calls, Fiber.join)) {
        assert.deepInclude(error, { _tag: "StackClosed", reached: "no" })
      }
      yield* Fiber.join(closing)
      assert.strictEqual(stack.deadlines.size, 0)
    }))

  it.effect("lets calls time out by their own deadlines while it drains", () =>
    Effect.gen(function*() {
      const { close, dispatch } = yield* dispatcher("3 seconds")
      const call = yield* start(Effect.flip(dispatch(method, hanging).pipe(Rpc.deadline("1 second"))))
      const closing = yield* start(close)
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Fiber.join(call))._tag, "Timeout")
      yield* Fiber.join(closing)
    }))

  it.effect("ends at once when the calls it waits for are interrupted", () =>
    Effect.gen(function*() {
      const { close, dispatch } = yield* dispatcher("3 seconds")
      const call = yield* start(dispatch(method, () => Effect.never))
      const closing = yield* start(close)
      yield* settle
      yield* stop(call)
      yield* Fiber.join(closing)
    }))

  it.effect("aborts at once when it may take no time", () =>
    Effect.gen(function*() {
      const { close, dispatch } = yield* dispatcher("0 seconds")
      const call = yield* start(Effect.flip(dispatch(method, hanging)))
      const closing = yield* start(close)
      yield* TestClock.adjust("1 millis")
      yield* Fiber.join(closing)
      assert.strictEqual((yield* Fiber.join(call))._tag, "StackClosed")
    }))
})

describe("interrupting a caller", () => {
  it.effect("ends the exchange on the wire and releases everything that the call held", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      let ended = 0
      script.answer = () => Effect.onInterrupt(Effect.never, () => Effect.sync(() => void ended++))
      yield* (yield* TestServerSet).bind(endpoints(1))
      const fiber = yield* start(client.call("hi"))
      yield* settle
      const [connection] = script.connections
      assert.strictEqual(connection!.outstanding, 1)
      yield* stop(fiber)
      assert.strictEqual(ended, 1)
      assert.strictEqual(connection!.outstanding, 0)
      const shared = yield* Stack
      assert.strictEqual(shared.deadlines.size, 0)
      const state = (role: string) => describeStack(shared).stages.find((node) => node.role === role)!.state
      assert.deepInclude(state("dispatcher") as object, { ...idle, failures: { Interrupted: 1 } })
      const { endpoints: [seen] } = state("balancer") as { readonly endpoints: ReadonlyArray<object> }
      assert.deepInclude(seen, { endpoint: "h:1", state: "Open", load: 0, weight: 1, active: true })
      assert.notProperty(seen, "latencyMillis")
      assert.notProperty(seen, "fault")
      assert.strictEqual(client.calls[0]!.abort.listeners, 0)
    }).pipe(Effect.provide(stack())))
})

describe("a filter above the balancer", () => {
  const filtered = (wait: (call: Call) => Effect.Effect<unknown>) => ({
    above: Filter.above(
      Text,
      (inner) =>
        Effect.succeed({ ...inner, send: (request, call) => Effect.andThen(wait(call), inner.send(request, call)) })
    )
  })

  it.effect("may wait in a way of its own, and the deadline ends it there", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const shared = yield* Stack
      yield* (yield* TestServerSet).bind(endpoints(1))
      const fiber = yield* start(Effect.flip(client.call("hi")))
      yield* TestClock.adjust("9999 millis")
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      const error = yield* Fiber.join(fiber)
      assert.deepInclude(error, { _tag: "Timeout", waiting: "filter", timeoutMillis: 10_000, reached: "no" })
      assert.strictEqual(shared.deadlines.size, 0)
      assert.strictEqual(client.calls[0]!.abort.listeners, 0)
    }).pipe(Effect.provide(stack(filtered(() => Effect.never)))))

  it.effect("may wait when the call has been at an endpoint, which then may have run it", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      yield* (yield* TestServerSet).bind(endpoints(1))
      const fiber = yield* start(Effect.flip(client.call("hi")))
      yield* TestClock.adjust("10 seconds")
      assert.deepInclude(yield* Fiber.join(fiber), { _tag: "Timeout", waiting: "filter", reached: "maybe" })
    }).pipe(Effect.provide(stack({
      above: Filter.above(Text, (inner) =>
        Effect.succeed({
          ...inner,
          send: (request, call) => Effect.andThen(inner.send(request, call), Effect.never)
        }))
    }))))

  it.effect("is interrupted by the deadline before the caller goes on", () => {
    const log: Array<string> = []
    const noting = filtered(() => Effect.onInterrupt(Effect.never, () => Effect.sync(() => log.push("filter"))))
    return Effect.gen(function*() {
      const client = yield* TextClient
      yield* (yield* TestServerSet).bind(endpoints(1))
      const fiber = yield* start(Effect.exit(client.call("hi")).pipe(Effect.tap(Effect.sync(() => log.push("caller")))))
      yield* TestClock.adjust("10 seconds")
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(log, ["filter", "caller"])
    }).pipe(Effect.provide(stack(noting)))
  })

  it.effect("does not keep its caller when it does not let itself be interrupted", () => {
    const gate = Deferred.makeUnsafe<void>()
    return Effect.gen(function*() {
      const client = yield* TextClient
      yield* (yield* TestServerSet).bind(endpoints(1))
      const fiber = yield* start(Effect.flip(client.call("hi")))
      yield* TestClock.adjust("10 seconds")
      assert.deepInclude(yield* Fiber.join(fiber), { _tag: "Timeout", waiting: "filter" })
      yield* Deferred.succeed(gate, undefined)
    }).pipe(Effect.provide(stack(filtered(() => Effect.uninterruptible(Deferred.await(gate))))))
  })

  it.effect("passes on what a wait of ours says when the deadline finds the call there", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      script.answer = () => Effect.never
      yield* (yield* TestServerSet).bind(endpoints(1))
      const fiber = yield* start(Effect.flip(client.call("hi")))
      yield* TestClock.adjust("10 seconds")
      assert.deepInclude(yield* Fiber.join(fiber), { _tag: "Timeout", waiting: "reply" })
    }).pipe(Effect.provide(stack(filtered(() => Effect.void)))))

  it.effect("is ended by its caller's interruption", () => {
    let ended = 0
    const noting = filtered(() => Effect.onInterrupt(Effect.never, () => Effect.sync(() => void ended++)))
    return Effect.gen(function*() {
      const client = yield* TextClient
      const shared = yield* Stack
      yield* (yield* TestServerSet).bind(endpoints(1))
      const fiber = yield* start(client.call("hi"))
      yield* settle
      yield* stop(fiber)
      assert.strictEqual(ended, 1)
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(fiber)))
      assert.strictEqual(shared.deadlines.size, 0)
      assert.strictEqual(client.calls[0]!.abort.listeners, 0)
    }).pipe(Effect.provide(stack(noting)))
  })

  it.effect("is ended when the drain has taken its time", () => {
    const scope = Scope.makeUnsafe()
    return Effect.gen(function*() {
      const context = yield* Layer.buildWithScope(
        stack({ ...filtered(() => Effect.never), stack: { drainTimeout: "1 second" } }),
        scope
      )
      const client = yield* Effect.provideContext(TextClient, context)
      const fiber = yield* start(Effect.flip(client.call("hi")))
      const closing = yield* start(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "StackClosed")
      yield* Fiber.join(closing)
    })
  })

  it.effect("answers at once without a fiber being left", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      yield* (yield* TestServerSet).bind(endpoints(1))
      assert.strictEqual(yield* client.call("hi"), "h:1 hi")
      assert.strictEqual(client.calls[0]!.abort.listeners, 0)
    }).pipe(Effect.provide(stack(filtered(() => Effect.void)))))

  it.effect("is ended when the call was aborted before it began", () => {
    // The deadline passes while the filter holds the only thread.
    let onStart: (call: Call) => void = () => {}
    const blocking = filtered((call) =>
      Effect.suspend(() => {
        onStart(call)
        return Effect.never
      })
    )
    return Effect.gen(function*() {
      const client = yield* TextClient
      yield* (yield* TestServerSet).bind(endpoints(1))
      onStart = (call) => call.abort.abort({ _tag: "Timeout", timeoutMillis: 5 })
      const error = yield* Effect.flip(client.call("hi"))
      assert.deepInclude(error, { _tag: "Timeout", waiting: "filter" })
    }).pipe(Effect.provide(stack(blocking)))
  })

  it.effect("does not begin when the call was aborted before", () =>
    Effect.gen(function*() {
      const { dispatch, stack } = yield* dispatcher()
      stack.markFiltered()
      let began = false
      const error = yield* Effect.flip(dispatch(method, (call) => {
        call.abort.abort({ _tag: "Timeout", timeoutMillis: 5 })
        return Effect.sync(() => {
          began = true
        })
      }))
      assert.deepInclude(error, { _tag: "Timeout", waiting: "filter", reached: "no" })
      assert.isFalse(began)
    }))

  it.effect("may answer in the place of what it was refused below", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      script.answer = (_, { endpoint }) => Effect.fail(new Nacked({ endpoint, why: "no", retryable: false }))
      yield* (yield* TestServerSet).bind(endpoints(1))
      assert.strictEqual(yield* client.call("hi"), "instead of Nacked")
    }).pipe(Effect.provide(stack({
      above: Filter.above(Text, (inner) =>
        Effect.succeed({
          ...inner,
          send: (request, call) =>
            Effect.catch(inner.send(request, call), (error) => Effect.succeed(`instead of ${error._tag}`))
        }))
    }))))
})

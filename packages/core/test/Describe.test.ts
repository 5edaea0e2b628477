import { assert, describe, it } from "@effect/vitest"
import {
  Aperture,
  Describe,
  describe as describeStack,
  FailureAccrual,
  Hedge,
  NackAdmission,
  PendingLimit,
  ReadyMade,
  Requeue,
  Resurrector,
  Retry,
  ServerSet,
  ServerSetState,
  SingletonPool,
  Stack,
  Stacks,
  type StackShape
} from "@scales-rpc/core"
import { Scripted, ScriptedConnector, Seed, TestServerSet } from "@scales-rpc/core/testing"
import { Effect, Layer, Stream } from "effect"
import { endpoints, inForce, settle, stack, start, stop, Text, TextClient } from "./support.ts"

const node = (stack: StackShape, role: string) => describeStack(stack).stages.find((stage) => stage.role === role)!

/** A ready-made client of text. */
const readyMade = (options: ReadyMade.ReadyMadeOptions & ReadyMade.Source<never>) =>
  ReadyMade.under(TextClient.layer(), {
    family: Text,
    label: "text",
    pool: SingletonPool.layer(Text),
    transport: Scripted.layer(Text, () => Effect.succeed("hello"))
  }, options).pipe(Layer.provideMerge(Stacks.layer), Layer.provideMerge(Seed.layer(1)))

const onlyStack = Effect.map(Stacks, (stacks) => stacks.list()[0]!)

describe("a described client", () => {
  it.effect("says what the whole client was given, and what it has by default", () =>
    Effect.gen(function*() {
      const { options } = node(yield* onlyStack, "client")
      assert.deepStrictEqual(
        options,
        inForce({ endpointSeries: 100, traceSampling: 1 }, {
          label: "greeter",
          eager: "3000 ms",
          drainTimeout: "1000 ms",
          budget: { ttlMillis: 5000, minRetriesPerSecond: 10, percentCanRetry: 0.2 },
          metrics: false
        })
      )
    }).pipe(Effect.provide(readyMade({
      uri: "tcp://h:1",
      label: "greeter",
      eager: "3 seconds",
      drainTimeout: "1 second",
      budget: { ttlMillis: 5000 },
      metrics: false
    }))))

  it.effect("says by default that it was given nothing but its server set, without who it is for", () =>
    Effect.gen(function*() {
      const shared = yield* onlyStack
      for (const { options, role } of describeStack(shared).stages) {
        for (const [name, { from }] of Object.entries(options)) {
          assert.strictEqual(from, role === "serverSet" ? "given" : "default", `${role}: ${name}`)
        }
      }
      assert.deepStrictEqual(node(shared, "client").options["eager"], { value: false, from: "default" })
      assert.deepStrictEqual(node(shared, "serverSet").options, inForce({}, { uri: "fixed://<redacted>@h/path" }))
    }).pipe(Effect.provide(
      readyMade({ uri: "fixed://me:hunter2@h/path" }).pipe(
        Layer.provide(ServerSet.resolver("fixed", () => Effect.succeed(ServerSet.states("tcp://h:1") as never)))
      )
    )))

  it.effect("says how its names are resolved, where that is by DNS", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(
        node(yield* onlyStack, "serverSet").options,
        inForce({
          servers: "those of the system",
          families: "those that this machine has an address of",
          interval: "10000 ms"
        }, { uri: "dns://127.0.0.1:80" })
      )
    }).pipe(Effect.provide(readyMade({ uri: "dns://127.0.0.1:80" }))))

  it.effect("does not say of a server set of one's own what is true of another", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(node(yield* onlyStack, "serverSet").options, inForce({ source: "a stream of states" }))
    }).pipe(Effect.provide(
      readyMade({ serverSet: Layer.succeed(ServerSet, Stream.succeed(ServerSetState.Bound(endpoints(2)))) }).pipe(
        Layer.provide(ServerSet.fromUri("tcp://h:1"))
      )
    )))

  it.effect("is seen although one of its stages cannot tell how it is", () =>
    Effect.gen(function*() {
      const shared = yield* Stack
      yield* shared.register({
        role: "filter",
        description: "is broken",
        options: {},
        snapshot: () => {
          throw new Error("no state")
        }
      })
      assert.deepStrictEqual(node(shared, "filter").state, { unknown: "no state" })
      assert.strictEqual(node(shared, "client").role, "client")
    }).pipe(Effect.scoped, Effect.provide(Stack.layer("text"))))
})

describe("a list in the state of a stage", () => {
  it("shows the first hundred, and how many more there are", () => {
    const numbers = (count: number) => new Set(Array.from({ length: count }, (_, nth) => nth))
    const shown: Array<number> = []
    const list = (count: number) =>
      Describe.list("numbers", numbers(count), (number) => {
        shown.push(number)
        return number * 2
      })
    assert.deepStrictEqual(list(2), { numbers: [0, 2], numbersLeftOut: undefined })
    assert.deepStrictEqual(list(100).numbersLeftOut, undefined)
    shown.splice(0)
    const { numbers: first, numbersLeftOut } = list(10_000)
    assert.lengthOf(first, 100)
    assert.strictEqual(numbersLeftOut, 9900)
    // Nothing is done for what is not shown.
    assert.lengthOf(shown, 100)
  })
})

describe("an endpoint that has left with calls on it", () => {
  it.effect("is named until they have ended", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const set = yield* TestServerSet
      const shared = yield* Stack
      const draining = () =>
        (node(shared, "balancer").state as { readonly drainingEndpoints: unknown }).drainingEndpoints
      ;(yield* ScriptedConnector).answer = () => Effect.never
      yield* set.bind(endpoints(1))
      const fibers = [yield* start(client.call("hi")), yield* start(client.call("hi"))]
      assert.deepStrictEqual(draining(), [])
      yield* set.bind(endpoints(2))
      yield* settle
      assert.deepStrictEqual(draining(), [{ endpoint: "h:1", state: "Open", load: 2 }])
      yield* Effect.forEach(fibers, stop)
      assert.deepStrictEqual(draining(), [])
    }).pipe(Effect.provide(stack())))
})

/** The stack of a ready-made client of a protocol that multiplexes, with every stage that can be in it. */
const whole = TextClient.layer().pipe(
  Layer.provide(Retry.layer(Text)),
  Layer.provide(Hedge.layer(Text, { maxExtraLoad: 0.05 })),
  Layer.provide(Requeue.layer(Text)),
  Layer.provide(NackAdmission.layer(Text)),
  Layer.provide(Aperture.layer(Text, { jitter: "off" })),
  Layer.provide(PendingLimit.layer(Text, { maxPending: 8 })),
  Layer.provide(FailureAccrual.layer(Text)),
  Layer.provide(Resurrector.layer(Text, { demandInterval: "100 millis" })),
  Layer.provide(SingletonPool.layer(Text)),
  Layer.provideMerge(Scripted.layer(Text, () => Effect.succeed("hello"))),
  Layer.provideMerge(TestServerSet.layer()),
  Layer.provideMerge(Stack.layer("greeter")),
  Layer.provideMerge(Seed.layer(1)),
  Layer.orDie
)

const rendered = `client greeter
client: what all stages share
    drainTimeout = 5000 ms
    budget = {"ttlMillis":10000,"minRetriesPerSecond":10,"percentCanRetry":0.2}
    metrics = true
    endpointSeries = 100
    traceSampling = 1
    timers 0
    budget: balance 100, withdrawals 0, exhausted 0
dispatcher: turns method calls into calls with a deadline, and drains on close
    service = text (given)
    timeout = 10000 ms (given)
    calls 1, successes 1, outstanding 0
    failures: none
    methods:
      call:
        requests 1, successes 1, pending 0
        failures: none
        quantiles: [[0.5,0],[0.9,0],[0.95,0],[0.99,0],[0.999,0],[0.9999,0]]
retry: sends idempotent calls again that may have been executed, under a budget
    retries = 2
    backoff = 5 ms to 200 ms, decorrelated jitter
    when = mayDiffer
    retries 0, budgetExhausted 0, exhausted 0, outOfTime 0, notRetryable 0
hedge: sends a second attempt of what takes longer than most, and takes the first good reply
    maxExtraLoad = 0.05 (given)
    minDelay = 1 ms
    sent 0, won 0, budgetExhausted 0, delayMillis 0
requeue: sends again what provably never ran, elsewhere, under a budget
    effort = 25
    share = 0.2
    requeues 0, notConnected 0, refused 0, budgetExhausted 0, limitReached 0, notOpen 0, notRetryable 0, outOfTime 0, budget 100
nackAdmission: holds calls back while the servers refuse most of them
    window = 120000 ms
    nackRateThreshold = 0.5
    maxDropProbability = 0.75
    dropped 0, accepted 1
balancer: sends each call to the least loaded of as few endpoints as the load needs
    minSize = 1
    maxSize = as many as there are
    minLoad = 0.5
    maxLoad = 2
    window = 5000 ms
    jitter = off (given)
    idleTime = 150000 ms
    whenEmpty = fail
    active 1, opening 0, idle 1, loadAverage 0, widened 0, narrowed 0, replaced 1, swapped 0, expired 0, size 2, usable 1, busy 0, down 1, draining 0, load 0, adds 2, removes 0, panics 0, waiting 0
    endpoints:
      - endpoint h:1, state Closed, load 0, weight 1, latencyMillis 0, active false, fault down at h:1: connection closed at h:1: broken by the script
        calls:
          attempts 1, successes 1, ignored 0
          failures: none
          quantiles: [[0.5,0],[0.9,0],[0.95,0],[0.99,0],[0.999,0],[0.9999,0]]
      - endpoint h:2, state Open, load 0, weight 1, active true
    drainingEndpoints: none
serverSet: says which endpoints there are
    source = a stream of states
    state Bound, endpoints 2, updates 2, changes 1, failures 0, updatedMillisAgo 0, changedMillisAgo 0
pendingLimit: keeps the attempts outstanding at one endpoint within a limit
    maxPending = 8 (given)
    pending 0, full 0, rejected 0
failureAccrual: avoids an endpoint whose calls fail, and probes it until one succeeds
    policy = under 80 % in 30 s, or 5 in a row; 5 s to 300 s, jittered
    dead 0, removals 0, revivals 0, probes 0
resurrector: connects again what broke, and fails its calls fast meanwhile
    backoff = 250 ms x 1.5, at most 10 s, jittered
    demandInterval = 100 ms (given)
    down 1, downs 1, attempts 0, revivals 0, fastFailures 0
pool: one shared connection an endpoint, made on demand
    size 1, waiting 0, waited 0, connects 2, connectFailures 0, dead 0, closes 1
    connectMillis: p50 0, p99 0
lately:
    1970-01-01T00:00:00.000Z h:1 down: connection closed at h:1: broken by the script`

describe("a client as text", () => {
  it.effect("is one paragraph a stage, from the caller down, with what went wrong lately", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      yield* (yield* TestServerSet).bind(endpoints(1, 2))
      yield* client.call("hi")
      const used = script.connections[0]!.endpoint.key
      script.refuse(used)
      script.breakAll(used)
      yield* settle
      const text = Describe.render(describeStack(yield* Stack))
      assert.strictEqual(text, rendered)
    }).pipe(Effect.provide(whole)))
})

describe("a client of 10,000 endpoints", () => {
  it.effect("is described, as data and as text, and its calls go on meanwhile", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      script.answer = () => Effect.never
      yield* (yield* TestServerSet).bind(endpoints(...Array.from({ length: 10_000 }, (_, i) => i + 1)))
      const fibers = yield* Effect.forEach(Array(500).fill("hi"), (text) => start(client.call(text)))
      const shared = yield* Stack
      // Taken between two steps of a call, as a page takes it: nothing waits for it, and it waits for nothing.
      const description = describeStack(shared)
      const { endpoints: shown, load } = node(shared, "balancer").state as {
        readonly endpoints: ReadonlyArray<unknown>
        readonly load: number
      }
      assert.lengthOf(shown, 10_000)
      assert.strictEqual(load, 500)
      assert.isAbove(Describe.render(description).split("\n").length, 10_000)
      assert.isAbove(JSON.stringify(description).length, 500_000)
      for (const fiber of fibers) assert.isUndefined(fiber.pollUnsafe())
      yield* Effect.forEach(fibers, stop)
    }).pipe(Effect.provide(stack())))

  it.effect("is described with as many of them as are asked for: what is not well, then what is loaded most", () =>
    Effect.gen(function*() {
      const client = yield* TextClient
      const script = yield* ScriptedConnector
      const shared = yield* Stack
      const balancer = (endpoints?: number) => {
        const { stages } = describeStack(shared, endpoints === undefined ? {} : { endpoints })
        return stages.find(({ role }) => role === "balancer")!.state as {
          readonly size: number
          readonly endpoints: ReadonlyArray<
            { readonly endpoint: string; readonly state: string; readonly load: number }
          >
          readonly endpointsLeftOut?: number
        }
      }
      script.refuse("h:70")
      script.refuse("h:9000")
      yield* (yield* TestServerSet).bind(endpoints(...Array.from({ length: 10_000 }, (_, i) => i + 1)))
      // What is refused goes elsewhere; each that was tried is down from then on.
      for (let calls = 0; calls < 10_000; calls++) yield* client.call("hi")
      script.answer = () => Effect.never
      const fibers = yield* Effect.forEach(Array(30).fill("hi"), (text) => start(client.call(text)))
      const whole = balancer()
      assert.lengthOf(whole.endpoints, 10_000)
      assert.notProperty(whole, "endpointsLeftOut")
      const down = whole.endpoints.filter(({ state }) => state === "Closed")
      assert.sameMembers(down.map(({ endpoint }) => endpoint), ["h:70", "h:9000"])
      const some = balancer(20)
      assert.strictEqual(some.size, 10_000)
      assert.strictEqual(some.endpointsLeftOut, 9980)
      assert.lengthOf(some.endpoints, 20)
      assert.sameMembers(some.endpoints.slice(0, 2).map(({ endpoint }) => endpoint), ["h:70", "h:9000"])
      assert.isTrue(some.endpoints.slice(2).every(({ load }) => load > 0))
      assert.lengthOf(balancer(0).endpoints, 0)
      assert.notProperty(balancer(10_000), "endpointsLeftOut")
      yield* Effect.forEach(fibers, stop)
    }).pipe(Effect.provide(stack())))
})

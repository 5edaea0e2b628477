/**
 * The books of a plain Thrift client and its servers over a load with faults, against what the test counts itself: its callers, its handlers, spies between
 * the stages of the client, and the bytes and messages on the lines between. Sums agree exactly; no series is left out.
 */
import { assert, beforeEach, describe, it } from "@effect/vitest"
import { Aperture, FailureAccrual, Resurrector, Rpc, WatermarkPool } from "@scales-rpc/core"
import { Seed } from "@scales-rpc/core/testing"
import { Cause, Context, Deferred, Effect, Exit, Fiber, Layer, Logger, Metric, Scope } from "effect"
import Net from "node:net"
import { Audit, entries } from "../../core/test/audit.ts"
import {
  Accrual,
  type Called,
  compareClient,
  compareConnections,
  onlyRelations,
  sumOf,
  total
} from "../../core/test/clientBooks.ts"
import { Handled } from "../../core/test/serverBooks.ts"
import { errorOf, Spies, tagOf } from "../../core/test/spies.ts"
import * as WireLine from "../../core/test/wireLine.ts"
import { seeded } from "../../core/src/testing/seeded.ts"
import { until } from "../../mux/test/series.ts"
import { Thrift, ThriftServer, ThriftTransport, ThriftWire } from "../src/index.ts"
import { call as written, Echo, handlers } from "./echoServer.ts"
import { Refused } from "./gen24/echo_types.js"

beforeEach(() => Effect.runSync(Effect.service(Metric.MetricRegistry)).clear())

const endOf = (exit: Exit.Exit<unknown, unknown>): string =>
  Exit.isFailure(exit) && !Cause.hasDies(exit.cause) && Cause.squash(exit.cause) instanceof Refused
    ? "ThriftException"
    : tagOf(exit)

/** Messages and bytes of one direction. */
class Frames {
  messages = 0
  bytes = 0
  connections = 0

  /** For one connection: whole frames of it. */
  tap(): WireLine.Tap {
    this.connections++
    let rest = Buffer.alloc(0)
    return (chunk) => {
      this.bytes += chunk.length
      rest = Buffer.concat([rest, chunk])
      while (rest.length >= 4) {
        const size = rest.readInt32BE(0)
        // What the test says that is no frame.
        if (size < 0) return void (rest = Buffer.alloc(0))
        if (rest.length < 4 + size) return
        rest = rest.subarray(4 + size)
        this.messages++
      }
    }
  }
}

/** One server from its start to its end. */
class Life extends Handled {
  readonly name: string
  readonly requests = new Frames()
  readonly replies = new Frames()
  /** Bytes that the test put in. */
  readonly said = { client: 0, server: 0 }
  alive = true

  constructor(name: string) {
    super(endOf)
    this.name = name
  }
}

/** The size of a frame that there is none of. */
const garbage = Buffer.from("ffffffff", "hex")

const closedPort: Effect.Effect<number> = Effect.callback((resume) => {
  const server = Net.createServer().listen(0, "127.0.0.1", () => {
    const { port } = server.address() as Net.AddressInfo
    server.close(() => resume(Effect.succeed(port)))
  })
})

const run = (seed: number) =>
  Effect.gen(function*() {
    const testBegan = performance.now()
    const random = seeded(seed)
    let gate = Deferred.makeUnsafe<void>()
    const started = new Set<number>()
    const serve = (life: Life, port = 0) =>
      Effect.gen(function*() {
        const scope = yield* Scope.fork(yield* Scope.Scope)
        const own: ThriftServer.Handlers<typeof Echo> = {
          ...handlers,
          ping: () => life.count("ping", Effect.succeed("pong")),
          passMessage: (message) => life.count("passMessage", Effect.succeed(message)),
          fail: (why) => life.count("fail", Effect.fail(new Refused({ why }))),
          crash: (why) => life.count("crash", Effect.die(new Error(why))),
          slow: (millis) =>
            life.count(
              "slow",
              Effect.suspend(() => {
                started.add(millis)
                return Effect.as(Effect.sleep(millis), "slow")
              })
            ),
          blob: (bytes) => life.count("blob", Effect.suspend(() => Effect.as(Deferred.await(gate), bytes))),
          note: () => life.count("note", Effect.void)
        }
        const server = yield* ThriftServer.make(Echo, own, { label: life.name, port }).pipe(
          Scope.provide(scope),
          Effect.provide(Logger.layer([]))
        )
        return { server, close: Scope.close(scope, Exit.void) }
      })
    const sites = yield* Effect.forEach(["one", "two"], (name) =>
      Effect.gen(function*() {
        const lives = [new Life(name)]
        const life = () => lives.at(-1)!
        const served = yield* serve(life())
        const line = yield* WireLine.make(
          served.server.address.port,
          (direction) => (direction === "toServer" ? life().requests : life().replies).tap()
        )
        return { lives, life, line, served }
      }))
    const [one, two] = sites as [typeof sites[0], typeof sites[0]]
    const lives = () => sites.flatMap(({ lives }) => lives)

    const spies = new Spies()
    const accrual = new Accrual()
    const scope = yield* Scope.fork(yield* Scope.Scope)
    const context = yield* Layer.build(
      Thrift.layer(Echo, {
        uri: `tcp://${one.line.endpoint},${two.line.endpoint},127.0.0.1:${yield* closedPort}`,
        label: "client",
        idempotent: ["ping", "blob"],
        budget: { minRetriesPerSecond: 1000 },
        balancer: Aperture.layer(ThriftWire, { minSize: 3 }),
        below: spies.below(ThriftWire),
        breaker: FailureAccrual.layer(ThriftWire, { policy: accrual.policy }).pipe(
          Layer.provide(spies.aboveResurrector(ThriftWire)),
          Layer.provide(Resurrector.layer(ThriftWire)),
          Layer.provide(spies.abovePool(ThriftWire))
        ),
        pool: WatermarkPool.layer(ThriftWire, { idleTime: "10 minutes" }),
        transport: Layer.provide(
          spies.aboveTransport(ThriftWire),
          ThriftTransport.layer({ connectTimeout: "1 minute" })
        )
      }).pipe(Layer.provide([Seed.layer(1), Logger.layer([])]))
    ).pipe(Scope.provide(scope))
    const echo = Context.get(context, Echo)

    const calls: Array<Called> = []
    let requestBytes = 0
    const call = (method: keyof typeof Echo.Service, args: ReadonlyArray<unknown>) =>
      Effect.suspend(() => {
        const begunAt = performance.now()
        return Effect.onExit(
          (echo[method] as (...args: ReadonlyArray<unknown>) => Effect.Effect<unknown, unknown>)(...args),
          (exit) =>
            Effect.sync(() => {
              const error = errorOf(exit)
              requestBytes += written(method, args).length
              calls.push({
                method,
                tag: tagOf(exit),
                waiting: error?.waiting,
                millis: performance.now() - begunAt
              })
            })
        )
      })
    let slow = 60_000
    const some = Effect.suspend(() => {
      const pick = Math.floor(random() * 20)
      const text = "x".repeat(Math.floor(random() * 600))
      if (pick < 9) return call("ping", [])
      if (pick < 13) return call("fail", [text, 0])
      if (pick < 15) return call("crash", [text])
      if (pick < 18) return call("note", [text])
      const own = slow++
      if (pick < 19) return Rpc.deadline("60 millis")(call("slow", [own]))
      return Effect.raceFirst(call("slow", [own]), until("it has begun", () => started.has(own)))
    })
    const load = (size: number) =>
      Effect.forEach(Array.from({ length: size }), () => Effect.exit(some), { concurrency: 8, discard: true })
    const open = (site: typeof one) =>
      spies.connections.filter(({ endpoint, open }) => open && endpoint === site.line.endpoint).length
    const idle = until("all is quiet", () =>
      sites.every((site) =>
        site.served.server.outstanding() === 0 && site.line.connected() === open(site) &&
        site.served.server.connections().length === open(site)
      ))
    const waitAt = (...where: ReadonlyArray<typeof one>) =>
      Effect.gen(function*() {
        gate = Deferred.makeUnsafe<void>()
        const fibers: Array<Fiber.Fiber<unknown>> = []
        const waiting = until(
          "all wait at the gate",
          () =>
            sumOf(sites.map(({ life }) =>
              life().running("blob")
            )) ===
              fibers.filter((fiber) => fiber.pollUnsafe() === undefined).length
        )
        while (!where.every(({ life }) => life().running("blob") > 0)) {
          fibers.push(
            yield* Effect.forkScoped(Effect.exit(call("blob", [Buffer.from("bytes")])), { startImmediately: true })
          )
          yield* waiting
        }
        const release = Effect.gen(function*() {
          yield* waiting
          yield* Deferred.succeed(gate, undefined)
          yield* Effect.forEach(fibers, Fiber.join)
        })
        return { waiting, release }
      })
    /** Makes calls until it has a connection and is not avoided. */
    const use = (site: typeof one) =>
      Effect.gen(function*() {
        while (open(site) === 0 || spies.states.get(site.line.endpoint)!() !== "Open") {
          yield* Effect.exit(call("ping", []))
        }
      })

    yield* load(200)
    yield* idle
    for (const site of sites) yield* use(site)

    // One is killed with calls on it, which go elsewhere, and started again on its port.
    yield* use(one)
    const killed = yield* waitAt(one)
    const cut = open(one)
    const cutIdle = cut - one.life().running("blob")
    yield* one.line.cut
    yield* until("it is gone", () => one.served.server.connections().length === 0 && one.life().running("blob") === 0)
    yield* until("its server has none", () => one.served.server.outstanding() === 0)
    const before = yield* entries({ server: "one" })
    yield* one.served.close
    one.life().alive = false
    yield* load(20)
    yield* killed.release
    one.lives.push(new Life("one again"))
    one.served = yield* serve(one.life(), one.served.server.address.port)
    yield* one.line.mend
    yield* use(one)
    yield* idle

    // One breaks the protocol; then its client does, as the server sees it.
    const say = (to: "client" | "server") =>
      Effect.gen(function*() {
        yield* idle
        const connections = two.line.connected()
        two.life().said[to] += garbage.length
        two.line.say(to, garbage)
        yield* until("the connection is gone", () => two.line.connected() === connections - 1)
        yield* idle
        yield* use(two)
      })
    yield* say("client")
    yield* say("server")
    yield* load(30)
    yield* idle

    const audit = new Audit([...before, ...yield* entries()], seed)
    const testMillis = performance.now() - testBegan
    const ours = { client: "client" }
    const own = { client: "client", service: "Echo", calls, spies, accrual, endpoints: 3, concurrency: 8 }
    const books = { ...own, endpointSeries: 100, testMillis }
    const wire = (of: (life: Life) => number) => sumOf(lives().map(of))
    const abandoned = calls.filter(({ tag, waiting }) => tag === "Interrupted" || waiting === "reply").length
    assert.isAbove(abandoned, 0)
    compareClient(audit, books)
    compareConnections(audit, books, {
      closes: { server: cut + 1, protocol_error: 1, abandoned },
      accepted: sumOf(sites.map(({ line }) => line.connects())),
      sentBytes: wire(({ requests, said }) => requests.bytes - said.server),
      receivedBytes: wire(({ replies }) => replies.bytes)
    })
    const made = spies.connections.filter(({ open }) => open).length
    audit.all("scales.pool.", { idle: made, in_use: 0, refused: 0 }, ours)
    audit.relation(
      "scales.pool.waited",
      "whether one of several connections was free is the pool's own",
      (value) => value >= spies.waited && value <= spies.attempts.length,
      ours
    )
    audit.all("scales.thrift.", {
      calls: wire(({ requests }) => requests.messages),
      busy: 0,
      abandoned,
      // The one whose server ended it was idle, too.
      idle_closed: cutIdle + 1,
      protocol_errors: 1,
      upgrades: 0,
      request_payload_bytes: requestBytes,
      response_payload_bytes: sumOf(
        spies.attempts.map(({ exit }) => Exit.isSuccess(exit!) ? (exit.value.body as Uint8Array).length : 0)
      ),
      serialization_failures: 0,
      deserialization_failures: 0
    }, ours)
    audit.relation(
      "scales.stack.timers",
      "timers of stages of one kind are not told apart: of connections that are idle, and of what is down",
      (value) => value >= 0 && value <= made + 3,
      ours
    )
    for (const life of lives()) {
      const { alive, name, replies, requests, said } = life
      const connections = !alive ? 0 : open(name === "two" ? two : one)
      life.compare(audit, {
        server: name,
        service: "Echo",
        testMillis,
        connections,
        connects: requests.connections,
        received_bytes: requests.bytes,
        sent_bytes: replies.bytes - said.client,
        protocol_errors: name === "two" ? 1 : 0,
        expired: 0,
        drains: 0,
        aborted: 0
      })
      audit.all("scales.thrift_server.", {
        outstanding: 0,
        upgrades: 0,
        oversized: 0,
        undecodable: name === "two" ? 1 : 0,
        idle_closed: 0
      }, { server: name })
      assert.strictEqual(total(life.begun), requests.messages)
    }
    audit.done()
    const relations = [...onlyRelations, "scales.pool.waited", "scales.stack.timers"]
    assert.deepStrictEqual([...audit.relations.keys()].toSorted(), relations.toSorted())

    yield* Scope.close(scope, Exit.void)
    assert.deepStrictEqual((yield* entries(ours)).map(({ name }) => name), [])
    yield* Effect.all(sites.map(({ served }) => served.close), { concurrency: "unbounded" })
    assert.deepStrictEqual((yield* entries()).map(({ name }) => name), [])
  })

describe("a load with faults over two servers", () => {
  it.live("is counted exactly as it was", () => run(20_262), 20_000)
})

/**
 * The books of a client and its three servers over a load with faults, against what the test counts itself: its callers, its handlers, spies between the
 * stages of the client, and the bytes and messages on the lines between. Sums agree exactly; no series is left out.
 */
import { assert, beforeEach, describe, it } from "@effect/vitest"
import { Aperture, FailureAccrual, Filter, Resurrector, Rpc } from "@scales-rpc/core"
import { Message, Mux, MuxTransport, Nack } from "@scales-rpc/mux"
import { Protocols } from "@scales-rpc/thrift"
import { ThriftMux, type ThriftMuxServer } from "@scales-rpc/thriftmux"
import { Cause, Deferred, Effect, Exit, Fiber, Layer, Logger, Metric } from "effect"
import { Audit, entries } from "../../core/test/audit.ts"
import {
  Accrual,
  type Called,
  compareClient,
  compareConnections,
  count,
  type Counts,
  onlyRelations,
  sumOf,
  time,
  total
} from "../../core/test/clientBooks.ts"
import { Handled } from "../../core/test/serverBooks.ts"
import { errorOf, Spies, tagOf } from "../../core/test/spies.ts"
import * as WireLine from "../../core/test/wireLine.ts"
import { seeded } from "../../core/src/testing/seeded.ts"
import { Refused } from "../../examples/gen/echo_types.js"
import { build, closedPort, Echo, type EchoHandlers, leavesNoSockets, message, serve, until } from "./support.ts"

leavesNoSockets()

beforeEach(() => Effect.runSync(Effect.service(Metric.MetricRegistry)).clear())

/** Fragments of a message are no larger, in both directions. */
const window = 200

/** Messages of one direction by type, fragments apart, and what the test is interested in within them. */
class Frames {
  readonly messages: Counts = {}
  fragments = 0
  nacks = 0
  bytes = 0
  connections = 0

  /** For one connection: whole frames of it. */
  tap(): WireLine.Tap {
    this.connections++
    let rest = Buffer.alloc(0)
    const begun = new Set<number>()
    return (chunk) => {
      this.bytes += chunk.length
      rest = Buffer.concat([rest, chunk])
      while (rest.length >= 4) {
        const size = rest.readInt32BE(0)
        // What the test says that is no frame.
        if (size < 0) return void (rest = Buffer.alloc(0))
        if (rest.length < 4 + size) return
        const type = rest.readInt8(4)
        const tag = rest.readUIntBE(5, 3)
        const body = rest.subarray(8, 4 + size)
        rest = rest.subarray(4 + size)
        if ((tag & Message.fragmentBit) !== 0) {
          this.fragments++
          begun.add(tag & ~Message.fragmentBit)
          continue
        }
        const first = !begun.delete(tag)
        count(this.messages, `${type}`)
        if (first && type === Message.Type.Rdispatch && body[0] === Message.Status.Nack) this.nacks++
      }
    }
  }

  of(type: number): number {
    return this.messages[`${type}`] ?? 0
  }

  get all(): number {
    return total(this.messages)
  }
}

/** What was counted of one server from its start to its end: by its handlers, and on its line, what the test said there included. */
class Life extends Handled {
  /** The attribute of its series. */
  readonly name: string
  readonly requests = new Frames()
  readonly replies = new Frames()
  /** Bytes that the test put in. */
  readonly said = { client: 0, server: 0 }
  /** Messages of the server's that are the test's. */
  strays = 0
  alive = true

  constructor(name: string) {
    super(endOf)
    this.name = name
  }
}

const endOf = (exit: Exit.Exit<unknown, unknown>): string =>
  Exit.isFailure(exit) && !Cause.hasDies(exit.cause) && Cause.squash(exit.cause) instanceof Refused
    ? "ThriftException"
    : tagOf(exit)

/** The bytes of a request. */
const sizeOf = (method: string, args: ReadonlyArray<unknown>): number => {
  const writer = Protocols.binary.writer()
  Echo.definition.methods.get(method)!.encodeCall(1, args, writer)
  return writer.take().length
}

/** A frame of type Rdispatch on a tag that no call has. */
const stray = Buffer.from("00000007fe000fa0000000", "hex")
/** The size of a frame that there is none of. */
const garbage = Buffer.from("ffffffff", "hex")

interface Variant {
  readonly what: string
  readonly options: ThriftMux.ThriftMuxOptions
  /** A filter hides the direct way. */
  readonly filtered: boolean
}

const variants: ReadonlyArray<Variant> = [
  { what: "whose calls go the direct way", options: {}, filtered: false },
  { what: "whose calls go by effects, with series of two endpoints", options: { endpointSeries: 2 }, filtered: true }
]

const names = ["one", "two", "three"] as const

const run = ({ filtered, options }: Variant, seed: number) =>
  Effect.gen(function*() {
    const testBegan = performance.now()
    const random = seeded(seed)
    let gate = Deferred.makeUnsafe<void>()
    let touched = 0
    /** Calls of `slow` whose handler has begun, by their argument. */
    const started = new Set<number>()

    // The servers, each behind a line.
    const handlersOf = (life: Life): Partial<EchoHandlers> => ({
      ping: () => life.count("ping", Effect.succeed("pong")),
      passMessage: (message) => life.count("passMessage", Effect.succeed(message)),
      touch: () =>
        life.count("touch", Effect.suspend(() => ++touched % 4 === 0 ? Effect.fail(new Nack({})) : Effect.void)),
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
    })
    const serveAs = (name: string, life: Life, more: ThriftMuxServer.ThriftMuxServerOptions = {}) =>
      serve(handlersOf(life), { label: name, window, ...(name === "two" && { maxConcurrent: 8 }), ...more })
    const sites = yield* Effect.forEach(names, (name) =>
      Effect.gen(function*() {
        const lives = [new Life(name)]
        const life = () => lives.at(-1)!
        const server = yield* serveAs(name, life())
        const line = yield* WireLine.make(
          server.address.port,
          (direction) => (direction === "toServer" ? life().requests : life().replies).tap()
        )
        return { name, lives, life, line, server }
      }))
    const lives = () => sites.flatMap(({ lives }) => lives)
    const [one, two, three] = sites as [typeof sites[0], typeof sites[0], typeof sites[0]]
    const refusing = yield* closedPort

    // The client, with spies between its stages.
    const spies = new Spies()
    const accrual = new Accrual()
    const uri = `tcp://${[...sites.map(({ line }) => line.endpoint), `127.0.0.1:${refusing.port}`].join(",")}`
    const { close, echo, live } = yield* Effect.orDie(Effect.provide(
      build(ThriftMux.layer(Echo, {
        ...options,
        uri,
        label: "client",
        oneway: "await",
        idempotent: ["ping", "blob"],
        budget: { minRetriesPerSecond: 1000 },
        balancer: Aperture.layer(Mux, { minSize: 4 }),
        ...(filtered && { above: Filter.above(Mux, (inner) => Effect.succeed({ ...inner })) }),
        below: spies.below(Mux),
        breaker: FailureAccrual.layer(Mux, { policy: accrual.policy }).pipe(
          Layer.provide(spies.aboveResurrector(Mux)),
          Layer.provide(Resurrector.layer(Mux)),
          Layer.provide(spies.abovePool(Mux))
        ),
        transport: Layer.provide(
          spies.aboveTransport(Mux),
          // The first ping of each session is its only one, and a busy machine makes no connection fail.
          MuxTransport.layer({
            pingInterval: "10 minutes",
            pingTimeout: "1 minute",
            connectTimeout: "1 minute",
            handshakeTimeout: "1 minute",
            window
          })
        )
      })),
      Logger.layer([])
    ))

    // The callers.
    const calls: Array<Called> = []
    let requestBytes = 0
    const call = (method: keyof typeof Echo.Service, args: ReadonlyArray<unknown>) =>
      Effect.suspend(() => {
        const begunAt = performance.now()
        const bytes = sizeOf(method, args)
        return Effect.onExit(
          (echo[method] as (...args: ReadonlyArray<unknown>) => Effect.Effect<unknown, unknown>)(...args),
          (exit) =>
            Effect.sync(() => {
              const error = errorOf(exit)
              const tag = tagOf(exit)
              // One whose time is over before it begins is not written.
              requestBytes += error?.timeoutMillis === 0 ? 0 : bytes
              calls.push({ method, tag, waiting: error?.waiting, millis: performance.now() - begunAt })
            })
        )
      })
    let slow = 60_000
    const some = Effect.suspend(() => {
      const pick = Math.floor(random() * 20)
      const text = "x".repeat(Math.floor(random() * 600))
      if (pick < 5) return call("ping", [])
      if (pick < 10) return call("passMessage", [message(text, pick, [pick])])
      if (pick < 14) return call("touch", [text])
      if (pick < 16) return call("fail", [text, 0])
      if (pick < 17) return call("crash", [text])
      if (pick < 18) return call("note", [text])
      const own = slow++
      if (pick < 19) return Rpc.deadline("60 millis")(call("slow", [own]))
      return Effect.raceFirst(call("slow", [own]), until("it has begun", () => started.has(own)))
    })
    const load = (size: number) =>
      Effect.forEach(Array.from({ length: size }), () => Effect.exit(some), { concurrency: 12, discard: true })
    const blobs = ({ life }: typeof one) => life().running("blob")
    const say = ({ life, line }: typeof one, to: "client" | "server", bytes: Uint8Array) => {
      life().said[to] += bytes.length
      line.say(to, bytes)
    }
    /** Calls that wait at the gate, one at least at each of these; then nothing else is on its way. */
    const waitAt = (...where: ReadonlyArray<typeof one>) =>
      Effect.gen(function*() {
        gate = Deferred.makeUnsafe<void>()
        const fibers: Array<Fiber.Fiber<unknown>> = []
        const waiting = until(
          "all wait at the gate",
          () => sumOf(sites.map(blobs)) === fibers.filter((fiber) => fiber.pollUnsafe() === undefined).length
        )
        while (!where.every((site) => blobs(site) > 0)) {
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
    const usable = (site: typeof one) =>
      until(`${site.name} is usable`, () => spies.states.get(site.line.endpoint)!() === "Open")
    /** Makes calls until there is a connection. */
    const use = (site: typeof one) =>
      Effect.gen(function*() {
        while (site.server.sessions().length === 0) yield* Effect.exit(call("ping", []))
        yield* usable(site)
      })
    const idle = until("all is quiet", () =>
      live().outstanding === 0 && live().sessions.every(({ tags }) =>
        tags === 0
      ) &&
      sites.every(({ life, server }) => {
        const { replies, requests } = life()
        return server.outstanding() === 0 && requests.of(Message.Type.Tping) === replies.of(Message.Type.Rping) &&
          requests.of(Message.Type.Rping) === replies.of(Message.Type.Tping)
      }))

    yield* load(250)
    yield* idle
    for (const site of sites) yield* use(site)

    // One is killed with calls on it, which go elsewhere, and started again on its port.
    yield* use(one)
    const killed = yield* waitAt(one)
    yield* one.line.cut
    yield* until("it is gone", () => one.server.sessions().length === 0 && one.server.outstanding() === 0)
    const before = yield* entries({ server: "one" })
    yield* one.server.kill
    one.life().alive = false
    yield* load(30)
    yield* killed.release
    one.lives.push(new Life("one again"))
    one.server = yield* serveAs("one again", one.life(), { port: one.server.address.port })
    yield* one.line.mend
    yield* use(one)
    yield* idle

    // One breaks the protocol with calls on it, as its client sees it; another one's client does.
    for (const site of [two, three]) yield* use(site)
    const broken = yield* waitAt(two, three)
    for (const [site, to] of [[two, "client"], [three, "server"]] as const) {
      const sessions = site.server.sessions()
      say(site, to, garbage)
      yield* until("its session is gone", () => !site.server.sessions().includes(sessions[0]!))
      // Elsewhere, each.
      yield* broken.waiting
    }
    yield* broken.release
    for (const site of [two, three]) yield* use(site)
    yield* idle
    say(one, "client", stray)
    one.life().strays++

    // One drains without calls, another with one that takes too long.
    const drained = yield* waitAt(three)
    const [draining] = three.server.sessions()
    const aborted = blobs(three)
    yield* draining!.drain("30 millis")
    yield* drained.release
    yield* use(three)
    yield* idle
    yield* one.server.sessions()[0]!.drain()
    yield* use(one)
    yield* load(60)
    yield* two.server.sessions()[0]!.lease("1 hour")
    assert.isTrue(yield* two.server.sessions()[0]!.ping)
    yield* Effect.exit(call("ping", []))
    // The arguments cannot be written; nothing reaches the stack.
    const bytesBefore = requestBytes
    yield* Effect.exit(Effect.suspend(() => {
      const begunAt = performance.now()
      return Effect.onExit(echo.passMessage({ text: 5, items: 5 } as never), (exit) =>
        Effect.sync(() => {
          calls.push({
            method: "passMessage",
            tag: tagOf(exit),
            waiting: undefined,
            millis: performance.now() - begunAt
          })
        }))
    }))
    assert.strictEqual(requestBytes, bytesBefore)
    yield* idle
    yield* until(
      "what closed is closed",
      () => sites.every(({ line, server }) => line.connected() === 1 && server.sessions().length === 1)
    )

    const audit = new Audit([...before, ...yield* entries()], seed)
    const testMillis = performance.now() - testBegan
    const ours = { client: "client" }

    const wire = (of: (life: Life) => number) => sumOf(lives().map(of))
    const endpointSeries = options.endpointSeries ?? 100
    const own = { client: "client", service: "Echo", calls, spies, accrual, endpoints: 4, concurrency: 12 }
    const books = { ...own, endpointSeries, testMillis }
    compareClient(audit, books)
    compareConnections(audit, books, {
      closes: { error: 1, protocol_error: 1, server: 2, drained: 1 },
      accepted: sumOf(sites.map(({ line }) => line.connects())),
      sentBytes: wire(({ requests, said }) => requests.bytes - said.server),
      receivedBytes: wire(({ replies }) => replies.bytes)
    })
    audit.equal("scales.pool.waited", spies.waited, ours)
    const made = spies.connections
    const open = made.filter(({ open }) => open).length
    assert.strictEqual(open, 3)
    const connectMillis = { "": { count: made.length, sum: sumOf(made.map(({ millis }) => millis)) } }

    // Sessions, as the lines saw them.
    const asked = (type: number) => wire(({ requests }) => requests.of(type))
    const told = (type: number) => wire(({ replies }) => replies.of(type))
    const { Type } = Message
    audit.all("scales.mux.", {
      sessions: open,
      negotiating: 0,
      handshakes: made.length,
      draining: 0,
      drains: told(Type.Tdrain),
      drained: 1,
      leases: told(Type.Tlease),
      leased: 1,
      pings: asked(Type.Tping),
      ping_timeouts: 0,
      dispatches: asked(Type.Tdispatch),
      outstanding: 0,
      discards: asked(Type.OldTdiscarded),
      tags_in_use: 0,
      tags_held: 0,
      nacks: wire(({ replies }) => replies.nacks),
      unknown_tags: 1,
      protocol_errors: 1,
      downgrades: 0,
      messages_sent: wire(({ requests }) => requests.all),
      messages_received: wire(({ replies }) => replies.all),
      fragments_sent: wire(({ requests }) => requests.fragments),
      fragments_received: wire(({ replies }) => replies.fragments),
      queued: 0,
      queued_bytes: 0
    }, ours)
    assert.isAbove(wire(({ requests }) => requests.fragments), 0)
    assert.isAbove(asked(Type.OldTdiscarded), 0)
    assert.deepStrictEqual([told(Type.Tdrain), told(Type.Tlease), told(Type.Tping)], [2, 1, 1])
    assert.strictEqual(asked(Type.Tping), made.length)
    audit.between("scales.mux.handshake_latency_ms", {}, connectMillis, ours)
    const pongs = { count: told(Type.Rping), sum: told(Type.Rping) * testMillis }
    audit.relations.set(
      "scales.mux.ping_latency_ms",
      "the count is compared; what is within it is measured by nobody else"
    )
    audit.between("scales.mux.ping_latency_ms", {}, { "": pongs }, ours)
    audit.summary(
      "scales.mux.ping_latency_quantiles_ms",
      { "": Array.from({ length: pongs.count }, () => testMillis) },
      ours
    )
    audit.relation(
      "scales.mux.lease_remaining_ms",
      time,
      (value) => value > 3_600_000 - testMillis && value <= 3_600_000,
      ours
    )
    audit.relation(
      "scales.stack.timers",
      "timers of stages of one kind are not told apart: a ping and a lease, and what waits for what is down",
      (value) => value >= open + 1 && value <= open + 1 + 4,
      ours
    )

    // Payloads.
    audit.equal("scales.thrift.request_payload_bytes", requestBytes, ours)
    audit.equal(
      "scales.thrift.response_payload_bytes",
      sumOf(spies.attempts.map(({ exit }) => Exit.isSuccess(exit!) ? (exit.value.body as Uint8Array).length : 0)),
      ours
    )
    audit.equal("scales.thrift.serialization_failures", 1, ours)
    audit.equal("scales.thrift.deserialization_failures", 0, ours)

    // The servers: three, of which one had two lives.
    for (const life of lives()) {
      const { alive, ended, name, replies, requests, said, strays } = life
      const theirs = { server: name }
      const handlerNacks = ended["Nack touch"] ?? 0
      const concurrencyNacks = replies.nacks - handlerNacks
      life.compare(audit, {
        server: name,
        service: "Echo",
        testMillis,
        connections: alive ? 1 : 0,
        connects: requests.connections,
        received_bytes: requests.bytes,
        sent_bytes: replies.bytes - said.client,
        protocol_errors: name === "three" ? 1 : 0,
        // Neither run nor nacked.
        expired: requests.of(Type.Tdispatch) - total(life.begun) - concurrencyNacks,
        drains: replies.of(Type.Tdrain),
        aborted: name === "three" ? aborted : 0
      })
      audit.equal(
        "scales.mux_server.nacks",
        { handler: handlerNacks, concurrency: name === "two" ? concurrencyNacks : 0 },
        theirs
      )
      audit.all("scales.mux_server.", {
        discards: replies.of(Type.Rdiscarded),
        orphaned_discards: requests.of(Type.OldTdiscarded) - replies.of(Type.Rdiscarded),
        duplicate_tags: 0,
        leases: replies.of(Type.Tlease),
        pings: replies.of(Type.Tping),
        outstanding: 0,
        messages_sent: replies.all - strays,
        messages_received: requests.all,
        fragments_sent: replies.fragments,
        fragments_received: requests.fragments,
        queued: 0,
        queued_bytes: 0
      }, theirs)
    }
    audit.done()
    assert.deepStrictEqual([...audit.relations.keys()].toSorted(), relations.toSorted())

    yield* close
    assert.deepStrictEqual((yield* entries(ours)).map(({ name }) => name), [])
    yield* Effect.all(sites.map(({ server }) => server.close), { concurrency: "unbounded" })
    assert.deepStrictEqual((yield* entries()).map(({ name }) => name), [])
  })

/** Beside what is so for every client and server; the reason is where the relation is. */
const relations = [
  ...onlyRelations,
  "scales.mux.lease_remaining_ms",
  "scales.mux.ping_latency_ms",
  "scales.stack.timers"
]

describe("a load with faults over three servers", () => {
  for (const variant of variants) {
    it.live(`by a client ${variant.what} is counted exactly as it was`, () => run(variant, 20_261), 20_000)
  }
})

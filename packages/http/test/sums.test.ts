/**
 * The books of an HTTP client over a load with faults, against what the test counts itself: its callers, two servers of Node's, spies between the stages of
 * the client, and the bytes on the lines between. Sums agree exactly; no series is left out.
 */
import { assert, beforeEach, describe, it } from "@effect/vitest"
import { Aperture, FailureAccrual, Resurrector, Rpc, WatermarkPool } from "@scales-rpc/core"
import { Seed } from "@scales-rpc/core/testing"
import { Context, Effect, Exit, Fiber, Layer, Logger, Metric, Scope } from "effect"
import Net from "node:net"
import { Audit, entries } from "../../core/test/audit.ts"
import {
  Accrual,
  type Called,
  compareClient,
  compareConnections,
  count,
  type Counts,
  onlyRelations,
  sumOf
} from "../../core/test/clientBooks.ts"
import { errorOf, Spies, tagOf } from "../../core/test/spies.ts"
import * as WireLine from "../../core/test/wireLine.ts"
import { seeded } from "../../core/src/testing/seeded.ts"
import { Http, HttpBody, type HttpCallOptions, HttpTransport, HttpWire } from "../src/index.ts"
import { listen } from "./nodeServer.ts"
import { until } from "./support.ts"

beforeEach(() => Effect.runSync(Effect.service(Metric.MetricRegistry)).clear())

const closedPort: Effect.Effect<number> = Effect.callback((resume) => {
  const server = Net.createServer().listen(0, "127.0.0.1", () => {
    const { port } = server.address() as Net.AddressInfo
    server.close(() => resume(Effect.succeed(port)))
  })
})

/** What one server counts. */
class Served {
  requests = 0
  /** By class of the status. */
  readonly responses: Counts = {}
  nacks = 0
  requestBodyBytes = 0
  responseBodyBytes = 0
  /** What answers those that wait at the gate. */
  readonly gate = new Set<() => void>()
}

const run = (seed: number) =>
  Effect.gen(function*() {
    const testBegan = performance.now()
    const random = seeded(seed)
    const started = new Set<string>()
    const sites = yield* Effect.forEach([1, 2], () =>
      Effect.gen(function*() {
        const served = new Served()
        const server = yield* listen((request, response) => {
          served.requests++
          const path = request.url!
          const answer = (status: number, text: string, headers: Record<string, string> = {}) => {
            count(served.responses, `${Math.floor(status / 100)}xx`)
            served.responseBodyBytes += text.length
            response.writeHead(status, { "content-length": text.length, ...headers }).end(text)
          }
          request.on("data", (chunk: Buffer) => served.requestBodyBytes += chunk.length)
          request.on("end", () => {
            if (path === "/gate") {
              const open = () => {
                served.gate.delete(open)
                answer(200, "open")
              }
              served.gate.add(open)
              response.once("close", () => served.gate.delete(open))
            } else if (path.startsWith("/slow")) started.add(path)
            else if (path === "/nack" && served.requests % 3 > 0) {
              served.nacks++
              answer(503, "", { "retry-after": "0" })
            } else if (path === "/missing") answer(404, "there is none")
            else if (path === "/broken") answer(500, "it broke")
            else answer(200, "x".repeat(Number(path.slice(4)) || 1))
          })
        })
        return { served, server, line: yield* WireLine.make(server.port) }
      }))
    const [one, two] = sites as [typeof sites[0], typeof sites[0]]

    const spies = new Spies()
    const accrual = new Accrual()
    const scope = yield* Scope.fork(yield* Scope.Scope)
    const context = yield* Layer.build(
      Http.layer("client", {
        uri: `tcp://${one.line.endpoint},${two.line.endpoint},127.0.0.1:${yield* closedPort}`,
        budget: { minRetriesPerSecond: 1000 },
        balancer: Aperture.layer(HttpWire, { minSize: 3 }),
        below: spies.below(HttpWire),
        breaker: FailureAccrual.layer(HttpWire, { policy: accrual.policy }).pipe(
          Layer.provide(spies.aboveResurrector(HttpWire)),
          Layer.provide(Resurrector.layer(HttpWire)),
          Layer.provide(spies.abovePool(HttpWire))
        ),
        pool: WatermarkPool.layer(HttpWire, { idleTime: "10 minutes" }),
        transport: Layer.provide(spies.aboveTransport(HttpWire), HttpTransport.layer({ connectTimeout: "1 minute" }))
      }).pipe(Layer.provide([Seed.layer(1), Logger.layer([])]))
    ).pipe(Scope.provide(scope))
    const client = Context.get(context, Http.Client)

    const calls: Array<Called> = []
    const call = (method: string, path: string, options: HttpCallOptions = {}) =>
      Effect.suspend(() => {
        const begunAt = performance.now()
        return Effect.onExit(client.request(method, path, options), (exit) =>
          Effect.sync(() => {
            const error = errorOf(exit)
            // A status from 400 on is counted by itself.
            const tag = error?._tag === "HttpStatusError" ? String(error.status) : tagOf(exit)
            calls.push({ method, tag, waiting: error?.waiting, millis: performance.now() - begunAt })
          }))
      })
    let slow = 0
    const some = Effect.suspend((): Effect.Effect<unknown, unknown> => {
      const pick = Math.floor(random() * 20)
      const size = Math.floor(random() * 600)
      if (pick < 8) return call("GET", `/ok/${size}`)
      if (pick < 12) return call("POST", `/ok/${size}`, { body: HttpBody.text("y".repeat(size)) })
      if (pick < 14) return call("GET", "/missing")
      if (pick < 15) return call("POST", "/broken")
      if (pick < 17) return call("POST", "/nack")
      const path = `/slow/${slow++}`
      if (pick < 18) return Rpc.deadline("60 millis")(call("POST", path))
      if (pick < 19) return Effect.raceFirst(call("POST", path), until("it has begun", () => started.has(path)))
      return call("PUT", `/ok/${size}`, { body: HttpBody.text("y".repeat(size)) })
    })
    const load = (size: number) =>
      Effect.forEach(Array.from({ length: size }), () => Effect.exit(some), { concurrency: 8, discard: true })
    const open = (site: typeof one) =>
      spies.connections.filter(({ endpoint, open }) => open && endpoint === site.line.endpoint).length
    const idle = until(
      "all is quiet",
      () => sites.every((site) => site.line.connected() === open(site) && site.server.open() === open(site))
    )
    const waitAt = (where: typeof one) =>
      Effect.gen(function*() {
        const fibers: Array<Fiber.Fiber<unknown>> = []
        const waiting = until(
          "all wait at the gate",
          () =>
            sumOf(sites.map(({ served }) => served.gate.size)) ===
              fibers.filter((fiber) => fiber.pollUnsafe() === undefined).length
        )
        while (where.served.gate.size === 0) {
          fibers.push(yield* Effect.forkScoped(Effect.exit(call("GET", "/gate")), { startImmediately: true }))
          yield* waiting
        }
        return Effect.gen(function*() {
          yield* waiting
          for (const { served } of sites) for (const open of [...served.gate]) open()
          yield* Effect.forEach(fibers, Fiber.join)
        })
      })
    /** Makes calls until it has a connection and is not avoided. */
    const use = (site: typeof one) =>
      Effect.gen(function*() {
        while (open(site) === 0 || spies.states.get(site.line.endpoint)!() !== "Open") {
          yield* Effect.exit(call("GET", "/ok/1"))
        }
      })

    yield* load(200)
    yield* idle
    for (const site of sites) yield* use(site)

    // One cannot be reached any more, with calls on it, which go elsewhere, and then can again.
    yield* use(one)
    const killed = yield* waitAt(one)
    const cut = one.served.gate.size
    const cutIdle = open(one) - cut
    yield* one.line.cut
    yield* until("it is gone", () => one.server.open() === 0 && one.served.gate.size === 0)
    yield* load(20)
    yield* killed
    yield* one.line.mend
    yield* use(one)
    yield* idle

    // One breaks the protocol with a call on the connection.
    yield* use(two)
    const broken = yield* waitAt(two)
    const connected = two.line.connected()
    two.line.say("client", Buffer.from("SSH-2.0-OpenSSH\r\n\r\n"))
    yield* until("the connection is gone", () => two.line.connected() === connected - 1)
    yield* broken
    yield* idle
    yield* load(30)
    yield* idle

    const audit = new Audit(yield* entries(), seed)
    const testMillis = performance.now() - testBegan
    const ours = { client: "client" }
    const own = { client: "client", calls, spies, accrual, endpoints: 3, concurrency: 8, testMillis }
    const books = { ...own, service: Http.Client.key, endpointSeries: 100 }
    const all = (of: (site: typeof one) => number) => sumOf(sites.map(of))
    const abandoned = calls.filter(({ tag, waiting }) => tag === "Interrupted" || waiting === "reply").length
    assert.isAbove(abandoned, 0)
    compareClient(audit, { ...books, failureReply: ({ status }) => status >= 500 })
    compareConnections(audit, books, {
      closes: { server: cut, idle: cutIdle, protocol_error: 1, abandoned },
      accepted: all(({ line }) => line.connects()),
      sentBytes: all(({ line }) => line.toServer.passed),
      receivedBytes: all(({ line }) => line.toClient.passed + line.toClient.injected)
    })
    const made = spies.connections.filter(({ open }) => open).length
    audit.all("scales.pool.", { idle: made, in_use: 0, refused: 0 }, ours)
    audit.relation(
      "scales.pool.waited",
      "whether one of several connections was free is the pool's own",
      (value) => value >= spies.waited && value <= spies.attempts.length,
      ours
    )
    audit.relation(
      "scales.stack.timers",
      "timers of stages of one kind are not told apart: of connections that are idle, and of what is down",
      (value) => value >= 0 && value <= made + 3,
      ours
    )
    const responses: Counts = {}
    for (const { served } of sites) {
      for (const [each, by] of Object.entries(served.responses)) count(responses, each, by)
    }
    const failures: Counts = {}
    for (const { aborted, exit } of spies.attempts) {
      if (Exit.isSuccess(exit!)) continue
      const tag = aborted() && errorOf(exit)?._tag !== "Timeout" ? "Interrupted" : tagOf(exit!)
      // The others had no connection.
      if (["Nacked", "ProtocolError", "ConnectionClosed", "Timeout"].includes(tag)) count(failures, tag)
    }
    const http = { ...ours, protocol: "http/1.1" }
    audit.equal("scales.http.responses", responses, http)
    audit.equal("scales.http.failures", failures, http)
    audit.equal("scales.http.nacks", { true: all(({ served }) => served.nacks) }, http)
    audit.equal("scales.http.bodies", {}, http)
    audit.all("scales.http.", {
      requests: all(({ served }) => served.requests),
      pending: 0,
      abandoned,
      stale: 0,
      truncated: 0,
      request_body_bytes: all(({ served }) => served.requestBodyBytes),
      response_body_bytes: all(({ served }) => served.responseBodyBytes),
      protocol_errors: 1,
      alpn_refusals: 0
    }, http)
    audit.done()
    const others = onlyRelations.filter((name) => !name.startsWith("scales.server."))
    const relations = [...others, "scales.pool.waited", "scales.stack.timers"]
    assert.deepStrictEqual([...audit.relations.keys()].toSorted(), relations.toSorted())

    yield* Scope.close(scope, Exit.void)
    assert.deepStrictEqual((yield* entries()).map(({ name }) => name), [])
  })

describe("a load with faults over two servers", () => {
  it.live("is counted exactly as it was", () => run(20_263), 20_000)
})

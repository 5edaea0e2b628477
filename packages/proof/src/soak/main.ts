/**
 * `npm run soak`: a client under a load of every kind for a minute, `--full` an hour, while servers are killed, drained and started
 * again. At ten points everything rests and is measured: heap, handles, fibers, calls, tags, sockets. They must be flat.
 */
import { type Balancer, describe, Stacks } from "@scales-rpc/core"
import { ThriftMux } from "@scales-rpc/thriftmux"
import { Effect, Fiber, Metric, Schedule } from "effect"
import { parseArgs } from "node:util"
import { Echo } from "../../../examples/src/echo.ts"
import { drawer } from "../schedules/grammar.ts"
import { caller, type Tally } from "./load.ts"
import { measure } from "./measure.ts"
import * as Servers from "./servers.ts"
import { type Point, rising } from "./verdict.ts"

const usage = `Usage: npm run soak -- [options]

  --seconds N   how long (default 60; with --full 3600), at least 10
  --seed N      of the calls (default: one that is printed)`

const { values } = parseArgs({
  options: {
    seconds: { type: "string" },
    seed: { type: "string" },
    full: { type: "boolean" },
    help: { type: "boolean" }
  }
})
if (values.help === true) {
  console.log(usage)
  process.exit(0)
}
const seconds = Number(values.seconds ?? (values.full === true ? 3600 : 60))
const seed = Number(values.seed ?? Date.now() % 0x7fffffff)
if (!(seconds >= 10) || !Number.isSafeInteger(seed)) {
  console.error(usage)
  process.exit(2)
}

const points = 10
const servers = 3
const callers = 16

/** What the stages that are read here show of themselves. */
interface States {
  readonly dispatcher: { readonly outstanding: number }
  readonly balancer: { readonly endpoints: ReadonlyArray<Balancer.EndpointView> }
  readonly transport: { readonly sessions: ReadonlyArray<{ readonly tags: number }> }
}

const observe = Effect.map(Stacks, (stacks) => {
  const stages = stacks.list().flatMap((stack) => describe(stack).stages)
  const state = <Role extends keyof States>(role: Role) =>
    stages.find((stage) => stage.role === role)!.state as States[Role]
  const { endpoints } = state("balancer")
  const { sessions } = state("transport")
  return {
    stacks: stacks.list().length,
    open: endpoints.filter(({ state }) => state === "Open").length,
    outstanding: state("dispatcher").outstanding,
    loads: endpoints.reduce((sum, { load }) => sum + load, 0),
    tags: sessions.reduce((sum, { tags }) => sum + tags, 0),
    sessions: sessions.length
  }
})

/** Waits until every endpoint is open, with calls at all of them, and nothing is owed; gives up after some seconds. */
const rest = (echo: Echo["Service"]) =>
  Effect.gen(function*() {
    const nudge = Effect.all(Array.from({ length: 2 * servers }, () => Effect.exit(echo.slow(5))), {
      concurrency: "unbounded",
      discard: true
    })
    yield* Effect.repeat(Effect.andThen(nudge, observe), {
      schedule: Schedule.spaced("50 millis"),
      until: ({ open }) => open === servers,
      times: 300
    })
    yield* Effect.repeat(observe, {
      schedule: Schedule.spaced("20 millis"),
      until: ({ loads, outstanding, tags }) => loads + outstanding + tags === 0,
      times: 250
    })
  })

const soak = Effect.gen(function*() {
  const fleet = yield* Effect.all(Array.from({ length: servers }, () => Servers.start), { concurrency: "unbounded" })
  const uri = `tcp://${fleet.map(({ address }) => address).join(",")}`
  const draw = drawer(seed, 0)
  const random = () => draw(0x40000000) / 0x40000000
  const tally: Tally = { calls: 0, ok: 0, wrong: 0, failures: {} }
  const ours: Array<Point> = []
  // The first server is left alone, so that its figures are of one process.
  const theirs: Array<Point> = []
  // Of a long round each server is stopped again and again.
  const incidents = Math.max(1, Math.round(seconds / points / 6))
  const spellMillis = seconds * 1000 / points / incidents

  /** Calls for a while, with a server that goes and comes back, and a second client that comes and goes. */
  const round = (echo: Echo["Service"], number: number) =>
    Effect.gen(function*() {
      let stopped = false
      const calling = yield* Effect.forkChild(
        Effect.all(Array.from({ length: callers }, () => caller(echo, tally, random, () => stopped)), {
          concurrency: "unbounded",
          discard: true
        })
      )
      for (let incident = number * incidents; incident < (number + 1) * incidents; incident++) {
        const victim = fleet[1 + incident % (servers - 1)]!
        yield* Effect.sleep(spellMillis * 0.2)
        yield* victim.stop(incident % 4 < 2 ? "SIGKILL" : "SIGTERM")
        const visit = Effect.flatMap(Echo, (second) => Effect.exit(second.slow(1)))
        yield* Effect.provide(visit, ThriftMux.layer(Echo, { uri, label: "visitor" }), { local: true })
        yield* Effect.sleep(spellMillis * 0.2)
        yield* victim.restart
        yield* Effect.sleep(spellMillis * 0.4)
      }
      stopped = true
      yield* Fiber.join(calling)
    })

  const faults = yield* Effect.gen(function*() {
    const echo = yield* Echo
    for (let number = 0; number < points; number++) {
      yield* round(echo, number)
      yield* rest(echo)
      const observed = yield* observe
      ours.push({ ...yield* measure, ...observed })
      theirs.push(yield* fleet[0]!.point)
      const { fibers, handles, heap, outstanding, sockets, tags } = ours.at(-1)!
      console.log(
        `point ${number + 1}: heap ${(heap / 1e6).toFixed(2)} MB, ${
          Object.values(handles).reduce((sum, count) => sum + count, 0)
        } handles, ${sockets} sockets, ` +
          `${fibers} fibers, ${outstanding} calls, ${tags} tags; server heap ${
            (theirs.at(-1)!.heap / 1e6).toFixed(2)
          } MB; ` +
          `${tally.calls} calls made`
      )
    }
    return [...rising("client", ours), ...rising("server", theirs)]
  }).pipe(
    Effect.provide(ThriftMux.layer(Echo, { uri, label: "soak", clientId: "soak", oneway: "await" })),
    Effect.provide(Stacks.layer)
  )

  if (tally.wrong > 0) faults.push(`${tally.wrong} wrong replies`)
  for (const fault of faults) console.log(`NOT FLAT ${fault}`)
  const { calls, failures, ok } = tally
  console.log(
    JSON.stringify({ flat: faults.length === 0, seconds, seed, calls, ok, failures, client: ours, server: theirs })
  )
  return faults.length === 0 ? 0 : 1
})

// Not left to end by itself: a handle that leaked would keep it.
process.exit(await Effect.runPromise(Metric.enableRuntimeMetrics(Effect.scoped(soak))))

/**
 * `npm start`: five servers, 64 callers, one client. One server is killed, started again, another slowed down; the client loses
 * no call that could be saved, and nothing leaks.
 */
import { describe, Stacks } from "@scales-rpc/core"
import { ThriftMux } from "@scales-rpc/thriftmux"
import { Cause, Effect, Exit, Schedule } from "effect"
import Int64 from "node-int64"
import { Echo } from "../echo.ts"
import { Message } from "../../gen/echo_types.js"
import * as Fleet from "./fleet.ts"
import { type DemoOptions, parse } from "./options.ts"
import * as Screen from "./screen.ts"
import * as Tally from "./tally.ts"

/** What the client's own stages say of themselves. */
interface Observed {
  readonly endpoints: ReadonlyArray<{ readonly endpoint: string; readonly state: string; readonly load: number }>
  /** Tags that no outstanding call holds, loads that no call accounts for, and timers of calls. */
  readonly tags: number
  readonly loads: number
  readonly outstanding: number
}

const observe = Effect.map(Stacks, (stacks): Observed => {
  const observed = { endpoints: [] as Array<Observed["endpoints"][number]>, tags: 0, loads: 0, outstanding: 0 }
  for (const { role, state } of stacks.list().flatMap(describe)) {
    if (role === "balancer") observed.endpoints.push(...(state as Pick<Observed, "endpoints">).endpoints)
    if (role === "dispatcher") observed.outstanding += (state as { readonly outstanding: number }).outstanding
    if (role === "transport") {
      const { sessions } = state as { readonly sessions: ReadonlyArray<{ readonly tags: number }> }
      for (const session of sessions) observed.tags += session.tags
    }
  }
  for (const { load } of observed.endpoints) observed.loads += load
  return observed
})

/** Calls until the time is over, and checks every reply. */
const caller = (id: number, tally: Tally.Tally, until: number) =>
  Effect.gen(function*() {
    const echo = yield* Echo
    for (let n = 0; Date.now() < until; n++) {
      const sent = new Message({ text: `caller ${id} call ${n}`, number: new Int64(n), items: [id, n] })
      tally.calls++
      const exit = yield* Effect.exit(echo.passMessage(sent))
      if (Exit.isSuccess(exit)) {
        const { items, text } = exit.value
        if (text === sent.text && items[0] === id && items[1] === n) tally.ok++
        else tally.wrong++
      } else {
        const reason = exit.cause.reasons[0]
        const tag = reason !== undefined && Cause.isFailReason(reason) ? reason.error._tag : "Defect"
        tally.failed[tag] = (tally.failed[tag] ?? 0) + 1
        // A caller that meets a failure takes a breath, as callers do.
        yield* Effect.sleep("20 millis")
      }
    }
  })

/** What happened to the servers, for the summary. */
interface Incidents {
  inFlightAtKill: number | undefined
  recoveredMs: number | undefined
}

/** Kills one server, starts it again, slows another down; each at its share of the time. */
const incidents = (
  fleet: ReadonlyArray<Fleet.FleetServer>,
  options: DemoOptions,
  tally: Tally.Tally,
  screen: Screen.Screen,
  into: Incidents
) =>
  Effect.gen(function*() {
    const share = (part: number) => Effect.sleep(part * options.seconds * 1000)
    const victim = fleet[0]!
    const name = (server: Fleet.FleetServer) => `127.0.0.1:${server.port}`
    yield* share(0.25)
    const before = yield* observe
    into.inFlightAtKill = before.endpoints.find(({ endpoint }) => endpoint === name(victim))?.load
    screen.event(`SIGKILL to ${name(victim)}, with ${into.inFlightAtKill ?? 0} calls in flight on it`)
    yield* victim.kill
    yield* share(0.2)
    yield* victim.restart
    const restarted = Date.now()
    screen.event(`${name(victim)} listens again`)
    const backAt = Effect.suspend(() => {
      const { lastReply } = tally.endpoints.get(name(victim))!
      return lastReply > restarted ? Effect.succeed(lastReply) : Effect.fail("not yet" as const)
    })
    const recovered = yield* Effect.option(
      Effect.retry(backAt, Schedule.max([Schedule.spaced("5 millis"), Schedule.upTo(Schedule.forever, { duration: "20 seconds" })]))
    )
    if (recovered._tag === "Some") {
      into.recoveredMs = recovered.value - restarted
      screen.event(`${name(victim)} answers again, ${into.recoveredMs} ms after it listens again`)
    }
    yield* share(0.1)
    const slow = fleet[1] ?? victim
    yield* slow.slow(50)
    screen.event(`${name(slow)} takes 50 ms longer for every call`)
    yield* share(0.2)
    yield* slow.slow(0)
    screen.event(`${name(slow)} is as fast as before`)
  })

const frame = (tally: Tally.Tally, observed: Observed, seconds: number): Screen.Frame => ({
  seconds,
  calls: tally.calls,
  ok: tally.ok,
  failed: tally.failed,
  rows: observed.endpoints.toSorted((a, b) => a.endpoint < b.endpoint ? -1 : 1).map(({ endpoint, load, state }) => {
    const own = tally.endpoints.get(endpoint)
    return {
      endpoint,
      state,
      outstanding: load,
      calls: own?.calls ?? 0,
      p50: own?.window.percentile(0.5),
      p99: own?.window.percentile(0.99)
    }
  })
})

/** The whole demo: what it ends with, and whether that is good. */
const demo = (options: DemoOptions) =>
  Effect.gen(function*() {
    const screen = Screen.on(process.stdout)
    const tally = Tally.make()
    const happened: Incidents = { inFlightAtKill: undefined, recoveredMs: undefined }
    const fleet = options.uri === undefined
      ? yield* Effect.all(Array.from({ length: options.servers }, () => Fleet.server), { concurrency: 4 })
      : []
    const uri = options.uri ?? `tcp://${fleet.map(({ port }) => `127.0.0.1:${port}`).join(",")}`
    screen.event(`${options.callers} callers, ${options.seconds} s, ${uri}`)
    const started = Date.now()
    const until = started + options.seconds * 1000
    const seconds = () => (Date.now() - started) / 1000

    const EchoLive = ThriftMux.layer(Echo, { uri, label: "demo", clientId: "demo", below: Tally.filter(tally) })
    const calling = Effect.gen(function*() {
      const show = Effect.map(observe, (observed) => screen.show(frame(tally, observed, seconds())))
      yield* Effect.forkScoped(Effect.repeat(show, Schedule.spaced("200 millis")))
      if (fleet.length > 0) yield* Effect.forkScoped(incidents(fleet, options, tally, screen, happened))
      yield* Effect.all(Array.from({ length: options.callers }, (_, id) => caller(id, tally, until)), {
        concurrency: "unbounded",
        discard: true
      })
      // Whoever gave up on a reply still owes the server's word on the tag: that much time it gets.
      const settled = Effect.flatMap(observe, (observed) =>
        observed.tags + observed.loads + observed.outstanding === 0 ? Effect.succeed(observed) : Effect.fail(observed))
      const last = yield* Effect.retry(settled, Schedule.spaced("20 millis").pipe(Schedule.upTo({ duration: "2 seconds" })))
        .pipe(Effect.catch((observed) => Effect.succeed(observed)))
      yield* show
      return { last, final: frame(tally, last, seconds()) }
    }).pipe(Effect.scoped, Effect.provide(EchoLive))

    const { final, last } = yield* Effect.provide(calling, Stacks.layer)
    screen.end()
    const leaked = last.tags + last.loads + last.outstanding
    const summary = {
      calls: tally.calls,
      ok: tally.ok,
      failed: tally.failed,
      wrong: tally.wrong,
      leakedTags: last.tags,
      leakedLoads: last.loads,
      recoveredMs: happened.recoveredMs ?? null,
      inFlightAtKill: happened.inFlightAtKill ?? null,
      callsPerSecond: Math.round(tally.calls / options.seconds)
    }
    console.log(`\n${Screen.table(final).join("\n")}\n`)
    console.log(`${Screen.line(final)}, ${summary.callsPerSecond} calls/s, wrong replies: ${tally.wrong}, leaked: ${leaked}`)
    if (summary.inFlightAtKill !== null) {
      console.log(
        `The killed server had ${summary.inFlightAtKill} calls in flight: those may have run, so they are not sent again by themselves.`
      )
    }
    if (options.json) console.log(JSON.stringify(summary))
    return tally.wrong === 0 && leaked === 0 && tally.ok > 0
  })

const program = Effect.gen(function*() {
  const options = yield* parse(process.argv.slice(2))
  if (options === undefined) return true
  return yield* Effect.scoped(demo(options))
}).pipe(
  Effect.catch((error) =>
    Effect.sync(() => {
      console.error(error.message)
      return false
    })
  )
)

// Ctrl-C ends the effect, and with it the servers.
const stop = new AbortController()
process.once("SIGINT", () => stop.abort())
process.once("SIGTERM", () => stop.abort())
const good = await Effect.runPromise(program, { signal: stop.signal }).catch((error: unknown) => {
  if (!stop.signal.aborted) console.error(error)
  return false
})
process.exitCode = good ? 0 : 1

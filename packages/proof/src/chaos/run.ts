/** Runs one scenario: a client of its own, the load, the fault, and what it came to. */
import { Abort, type Balancer, describe, Stacks } from "@scales-rpc/core"
import { Effect, Exit, Schedule, Scope } from "effect"
import type { ChildServer } from "../soak/servers.ts"
import * as Load from "./load.ts"
import type { Protocol } from "./protocol.ts"
import { type Scenario, type Settings, type Stage, timeoutMillis } from "./scenarios.ts"
import type { Figures } from "./verdict.ts"
import { type EndpointWatch, type FaultWatch, Watch } from "./watch.ts"

/** The least that the load runs before what is counted as before the fault, for that, and after all is well again. */
const warmUpMillis = 500
const beforeMillis = 1000
const tailMillis = 1000

/** How long a server may take to be used, and the client to let go of what it holds. */
const patienceMillis = 15_000
const lookMillis = 10

/** Waits until it is so; gives up after a time. */
const until = <E, R>(so: Effect.Effect<boolean, E, R>, millis: number) =>
  Effect.repeat(so, {
    schedule: Schedule.spaced(lookMillis),
    until: (is) => is,
    times: Math.ceil(millis / lookMillis)
  })

/** What the stages that are read here show of themselves. */
interface States {
  readonly dispatcher: { readonly outstanding: number }
  readonly balancer: { readonly endpoints: ReadonlyArray<Balancer.EndpointView> }
  readonly pool: { readonly connects: number; readonly connectFailures: number }
}

const stageOf = (stacks: Stacks["Service"]) => {
  const stages = stacks.list().flatMap((stack) => describe(stack).stages)
  return <Role extends keyof States>(role: Role) => stages.find((stage) => stage.role === role)!.state as States[Role]
}

/** What the pool has connected. */
const connections = Effect.map(Stacks, (stacks) => stageOf(stacks)("pool"))

/** What the client holds; 0 when it has no call, or something leaked. */
const held = ({ held: heldBy }: Protocol) =>
  Effect.map(Stacks, (stacks) => {
    const stage = stageOf(stacks)
    const loads = stage("balancer").endpoints.reduce((sum, { load }) => sum + load, 0)
    let others = 0
    for (const stack of stacks.list()) {
      for (const timer of stack.deadlines) if (timer instanceof Abort) others++
      others += heldBy(describe(stack).stages)
    }
    return stage("dispatcher").outstanding + loads + others
  })

/** One server at fault, and how the client meets it. */
interface Met {
  readonly watched: EndpointWatch
  readonly fault: FaultWatch
  /** Whether the client had used it before: what it had not need not come back. */
  readonly used: boolean
}

/** Answers of some servers at a time. */
interface Answers {
  readonly at: number
  readonly of: ReadonlyMap<EndpointWatch, number>
}

const answers = (watched: ReadonlyArray<EndpointWatch>): Answers => ({
  at: performance.now(),
  of: new Map(watched.map((each) => [each, each.answered]))
})

/** Answers a second between two times. */
const throughput = (from: Answers, to: Answers, watched: ReadonlyArray<EndpointWatch>): number =>
  watched.reduce((sum, each) => sum + to.of.get(each)! - from.of.get(each)!, 0) * 1000 / (to.at - from.at)

/** The longest of some times; `null` when one never ended. */
const longest = (millis: ReadonlyArray<number | undefined>): number | null =>
  millis.reduce<number | null>(
    (most, each) => most === null || each === undefined ? null : Math.max(most, Math.round(each)),
    0
  )

/** From one time to another that may never have come. */
const between = (from: number | undefined, to: number | undefined): number | undefined =>
  from === undefined || to === undefined ? undefined : to - from

/** The figures of one scenario, on servers that are all well and are so again at the end. */
export const run = (
  protocol: Protocol,
  scenario: Scenario,
  settings: Settings,
  fleet: ReadonlyArray<ChildServer>
) => {
  const watch = new Watch()
  const of = (server: ChildServer) => watch.at(server.address)
  const everyone = fleet.map(of)

  const play = Effect.gen(function*() {
    const call = yield* protocol.connect({
      uri: `tcp://${fleet.map(({ address }) => address).join(",")}`,
      label: scenario.name,
      timeout: timeoutMillis
    }, watch)
    const tally = new Load.Tally()
    const met: Array<Met> = []
    let faultAt: Answers | undefined
    let wellAt: Answers | undefined
    let lastWellAt = 0

    const stage: Stage = {
      fleet,
      settings,
      busiest: (count) => fleet.toSorted((a, b) => of(b).outstanding - of(a).outstanding).slice(0, count),
      faulty: (server) =>
        Effect.sync(() => {
          faultAt ??= answers(everyone)
          const watched = of(server)
          met.push({ watched, fault: watched.faulty(), used: watched.answered > 0 })
        }),
      well: (server) =>
        Effect.sync(() => {
          wellAt ??= answers(everyone)
          of(server).well()
          lastWellAt = performance.now()
        }),
      found: (servers) =>
        Effect.asVoid(
          until(Effect.sync(() => servers.every((server) => of(server).fault?.foundAt !== undefined)), timeoutMillis)
        )
    }

    const loading = yield* Scope.make()
    yield* Effect.addFinalizer((exit) => Scope.close(loading, exit))
    yield* Scope.provide(Load.run(call, settings.rate, tally), loading)
    yield* Effect.sleep(warmUpMillis)
    yield* until(Effect.sync(() => everyone.every(({ answered }) => answered > 0)), patienceMillis)
    const before = answers(everyone)
    yield* Effect.sleep(beforeMillis)
    const connected = yield* connections
    yield* scenario.play(stage)
    const back = () => met.every(({ used, watched }) => !used || watched.answeredAgainAt !== undefined)
    yield* until(Effect.sync(back), patienceMillis)
    yield* Effect.sleep(tailMillis)
    yield* Scope.close(loading, Exit.void)
    // Whoever gave up on a reply still owes the server's word on the tag: that much time it gets.
    yield* until(Effect.map(held(protocol), (left) => left === 0 && tally.ended === tally.calls), patienceMillis)
    const leaked = (yield* held(protocol)) + tally.calls - tally.ended
    const { connectFailures, connects } = yield* connections

    const begun = faultAt?.at ?? 0
    const others = everyone.filter((each) => met.every(({ watched }) => watched !== each))
    const lastFailure = tally.failed.reduce((last, { at }) => Math.max(last, at), -Infinity)
    const newFailures = connectFailures - connected.connectFailures
    const byTag: Record<string, number> = {}
    for (const { tag } of tally.failed) byTag[tag] = (byTag[tag] ?? 0) + 1
    const figures: Figures = {
      calls: tally.calls,
      failures: tally.failed.length,
      byTag,
      wrong: tally.wrong,
      leaked,
      slowestMs: Math.round(tally.slowestMillis),
      quietAfterMs: Math.max(0, Math.round(lastFailure - begun)),
      quietAfterBackMs: Math.max(0, Math.round(lastFailure - lastWellAt)),
      backAfterMs: longest(
        met.filter(({ used }) => used).map(({ watched }) => between(watched.wellAt, watched.answeredAgainAt))
      ),
      faultMs: longest(met.map(({ fault, watched }) => between(fault.at, watched.wellAt))) ?? 0,
      foundOutMs: longest(met.map(({ fault }) => between(fault.at, fault.foundAt))),
      atRisk: met.reduce((sum, { fault }) => sum + fault.atRisk, 0),
      probes: met.reduce((sum, { fault }) => sum + fault.probes, 0),
      connects: connects - connected.connects - newFailures,
      connectFailures: newFailures,
      othersKept: others.length === 0 || faultAt === undefined || wellAt === undefined
        ? null
        : Math.round(100 * throughput(faultAt, wellAt, others) / throughput(before, faultAt, others)) / 100
    }
    return figures
  })

  return play.pipe(Effect.scoped, Effect.provide(Stacks.layer))
}

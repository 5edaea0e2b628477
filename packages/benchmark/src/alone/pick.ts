/**
 * What it costs to choose an endpoint among 10, 1,000 and 10,000, for each balancer: a pick with its load counted and given back, on the members
 * of a real balancer (what the targets are of); and a whole `send` through the balancer to a sink that answers in the same turn, which is
 * mostly what a call costs in Effect. 64 calls are outstanding all the while.
 */
import {
  Abort,
  Balancer,
  CallContext,
  classifyExit,
  Endpoint,
  ServerSetState,
  Stack,
  StatusCell
} from "@scales-rpc/core"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
// Pickers are what balancers are made of, and not public: their cost is told apart from that of a call here only.
import { CallCounts } from "../../../core/src/CallStats.ts"
import { AperturePicker } from "../../../core/src/internal/AperturePicker.ts"
import { Heap } from "../../../core/src/internal/Heap.ts"
import { lessLoaded, P2CPicker } from "../../../core/src/internal/P2CPicker.ts"
import { PeakEwmaPicker } from "../../../core/src/internal/PeakEwmaPicker.ts"
import { RoundRobinPicker } from "../../../core/src/internal/RoundRobinPicker.ts"
import { WindowPicker } from "../../../core/src/internal/WindowPicker.ts"
import { summarize, type Summary } from "../statistics.ts"
import { answering, type Extent, isolated } from "./isolated.ts"

/** Numbers of endpoints. */
export const pickSizes = [10, 1_000, 10_000] as const

/** Calls that are outstanding while picks are measured. */
export const outstanding = 64

/** The defaults of `Aperture.layer`; `minSize` endpoints in it at least. */
const aperture = (minSize: number) => (control: Balancer.Control): Balancer.Picker =>
  new AperturePicker(control, {
    minSize,
    maxSize: Number.MAX_SAFE_INTEGER,
    minLoad: 0.5,
    maxLoad: 2,
    windowMillis: 5000,
    idleMillis: 150_000,
    jitter: { minMillis: 120_000, maxMillis: 240_000 }
  }, () => {})

/** The balancers with their defaults, and the default one with all endpoints in its aperture, which is the most that it can cost. */
const pickers = {
  Aperture: aperture(1),
  "Aperture, all inside": aperture(10_000),
  HeapBalancer: ({ stack }) => new Heap(stack.random),
  P2C: ({ stack }) => new P2CPicker(stack.random, lessLoaded),
  PeakEwma: ({ stack }) => new PeakEwmaPicker(stack.random, stack.now, 10_000),
  RoundRobin: ({ stack }) => new RoundRobinPicker(stack.random),
  DeterministicAperture: (control) =>
    new WindowPicker(control, { instance: 3, instances: 10, minAperture: 12, idleMillis: 150_000 })
} satisfies Record<string, (control: Balancer.Control) => Balancer.Picker>

/** The name of a balancer. */
export type PickerName = keyof typeof pickers

/** One balancer with one number of endpoints. */
export interface PickCost {
  readonly balancer: PickerName
  readonly endpoints: number
  /** A pick, its load counted, and given back; microseconds. */
  readonly micros: Summary
  /** The same as a call: `send`, to a sink that answers at once. */
  readonly sendMicros: Summary
}

/** What was measured, and what the targets are of: the default balancer among 10,000, and how much more that is than among 10. */
export interface PickReport {
  readonly costs: ReadonlyArray<PickCost>
  readonly ratios: { readonly pick10kMicros: number; readonly pickGrowth: number }
}

/** Of one balancer in one process. */
interface Task {
  readonly balancer: PickerName
  readonly rounds: number
  readonly millis: number
}

const none: ReadonlyArray<Endpoint> = []

const callOf = () => ({
  service: "bench",
  method: "pick",
  idempotent: false,
  deadline: Infinity,
  context: CallContext.empty,
  abort: new Abort(Infinity, Infinity),
  tried: [],
  classify: classifyExit,
  reply: undefined,
  span: undefined,
  trace: undefined
})

const answer = Exit.succeed(1)

/** A sink that is open and answers in the same turn. */
const sinkOf = () => ({ status: new StatusCell("Open"), open: Effect.void, send: () => answer })

/** What counts no calls: metrics are measured with the options. */
const uncounted = { began: () => {}, ended: () => {}, remove: () => {} } as unknown as NonNullable<
  Balancer.Member["stats"]
>

/** A clock that can be put forward: averages over seconds are to be what they come to. */
const forward = (clock: Clock.Clock) => {
  let ahead = 0
  const moved: Clock.Clock = Object.assign(Object.create(clock) as Clock.Clock, {
    currentTimeMillisUnsafe: () => Date.now() + ahead
  })
  return {
    clock: moved,
    forward: (millis: number) => {
      ahead += millis
    }
  }
}

/** A balancer over so many endpoints, with its calls outstanding, and the two ways to use it. */
const arrange = (name: PickerName, size: number, clock: ReturnType<typeof forward>) =>
  Effect.gen(function*() {
    const stack = yield* Stack
    const endpoints = Array.from(
      { length: size },
      (_, i) => Endpoint.tcp(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`, 8080)
    )
    let picker!: Balancer.Picker
    const { members, sink, view } = yield* Balancer.make(
      stack,
      { make: () => Effect.sync(sinkOf) },
      Stream.succeed(ServerSetState.Bound(endpoints)),
      (control) => Effect.sync(() => picker = pickers[name](control))
    )
    if (view().size !== size) throw new Error(`${view().size} endpoints of ${size}`)
    for (const member of members()) {
      member.stats = uncounted
      member.counts = new CallCounts()
    }
    const call = callOf()
    const held: Array<Balancer.Member> = []
    let next = 0
    const begin = (at: number) => {
      const member = picker.pick(none, call)!
      member.load++
      member.counts!.began()
      picker.began(member, at)
      return member
    }
    /** What `Balancer` does for an attempt, without the attempt. */
    const pickAlone = (count: number): void => {
      for (let i = 0; i < count; i++) {
        // Latencies that differ, as they do: an average that is a whole number costs less to keep.
        const at = stack.elapsed()
        held[next]!.release("success", i & 3, undefined, at)
        held[next] = begin(at)
        next = next + 1 === outstanding ? 0 : next + 1
      }
    }
    const sendThrough = (count: number): void => {
      let left = count
      const exit = Effect.runSyncExit(Effect.whileLoop({
        while: () => left > 0,
        body: () => sink.send(1, callOf()),
        step: () => void left--
      }))
      if (Exit.isFailure(exit)) throw new Error("a call failed")
    }
    sendThrough(200)
    while (held.length < outstanding) held.push(begin(stack.elapsed()))
    for (let i = 0; i < 400; i++) {
      clock.forward(1000)
      pickAlone(outstanding)
    }
    return { pickAlone, sendThrough }
  })

/** CPU microseconds of one, over about so many milliseconds. */
const timed = (run: (count: number) => void, millis: number): number => {
  const batch = 500
  const until = performance.now() + millis
  const cpu = process.cpuUsage()
  let count = 0
  do {
    run(batch)
    count += batch
  } while (performance.now() < until)
  const used = process.cpuUsage(cpu)
  return (used.user + used.system) / count
}

const measureOne = ({ balancer, millis, rounds }: Task): Promise<ReadonlyArray<PickCost>> =>
  Effect.runPromise(Effect.scoped(Effect.gen(function*() {
    const clock = forward(yield* Clock.Clock)
    const scope = yield* Scope.Scope
    const built = yield* Effect.forEach(
      pickSizes,
      (size) =>
        Layer.buildWithScope(Stack.layer(`pick-${size}`, { metrics: false }), scope).pipe(
          Effect.flatMap((context) => Effect.provideContext(arrange(balancer, size, clock), context)),
          Effect.provideService(Clock.Clock, clock.clock)
        )
    )
    const alone = pickSizes.map((): Array<number> => [])
    const sent = pickSizes.map((): Array<number> => [])
    for (let round = -2; round < rounds; round++) {
      for (const [i, { pickAlone, sendThrough }] of built.entries()) {
        const one = timed(pickAlone, millis)
        const other = timed(sendThrough, millis)
        // The first rounds are the compiler's.
        if (round < 0) continue
        alone[i]!.push(one)
        sent[i]!.push(other)
      }
    }
    return pickSizes.map((endpoints, i) => ({
      balancer,
      endpoints,
      micros: summarize(alone[i]!),
      sendMicros: summarize(sent[i]!)
    }))
  })))

const names = Object.keys(pickers) as ReadonlyArray<PickerName>

const extents = {
  quick: { balancers: names.slice(0, 1), rounds: 15, millis: 30 },
  standard: { balancers: names, rounds: 15, millis: 40 },
  full: { balancers: names, rounds: 31, millis: 100 }
}

/** Measures the balancers, each in a process of its own; `quick` the default one alone. */
export const measurePick = async (extent: Extent, progress: (line: string) => void): Promise<PickReport> => {
  const { balancers, millis, rounds } = extents[extent]
  const costs: Array<PickCost> = []
  for (const balancer of balancers) {
    progress(`a pick alone: ${balancer}`)
    const task: Task = { balancer, rounds, millis }
    costs.push(...await isolated<ReadonlyArray<PickCost>>(import.meta.url, task))
  }
  const micros = (size: number) =>
    costs.find(({ balancer, endpoints }) => balancer === "Aperture" && endpoints === size)!.micros.median
  return { costs, ratios: { pick10kMicros: micros(10_000), pickGrowth: micros(10_000) / micros(10) } }
}

answering(import.meta, measureOne)

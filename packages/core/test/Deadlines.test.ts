import { assert, describe, it } from "@effect/vitest"
import { Abort, Deadlines, Stack, Timer } from "@scales-rpc/core"
import { Clock, Effect, Exit, Layer, Scope } from "effect"
import { TestClock } from "effect/testing"
import { seeded, settle } from "./support.ts"

/** A timer that writes down when it fired. */
class Noted extends Timer {
  readonly name: number
  readonly #log: Array<number>
  readonly #then: (() => void) | undefined

  constructor(at: number, name: number, log: Array<number>, then?: () => void) {
    super(at)
    this.name = name
    this.#log = log
    this.#then = then
  }

  override fire(): void {
    this.#log.push(this.name)
    this.#then?.()
  }
}

/** A queue on a clock that the test drives: time passes for sleepers also while the clock on the wall is set. */
const driven = () => {
  const log: Array<number> = []
  let passed = 0
  let offset = 0
  let sleeper: { readonly at: number; readonly wake: () => void } | undefined
  let sleeps = 0
  const clock = { currentTimeMillisUnsafe: () => passed + offset } as Clock.Clock
  const queue = new Deadlines(clock, (millis, wake) => {
    assert.isUndefined(sleeper, "one sleep at a time")
    assert.isAtLeast(millis, 0)
    sleeps++
    const mine = sleeper = { at: passed + millis, wake }
    return () => {
      if (sleeper === mine) sleeper = undefined
    }
  })
  /** Wakes the sleeper where its time has come; `late`: it could not run before all the time had passed. */
  const advance = (millis: number, late = false) => {
    const end = passed + millis
    if (late) passed = end
    while (sleeper !== undefined && sleeper.at <= end) {
      const { at, wake } = sleeper
      passed = Math.max(passed, at)
      sleeper = undefined
      wake()
    }
    passed = end
  }
  const add = (millis: number, name: number, then?: () => void): Noted => {
    const timer = new Noted(queue.now() + millis, name, log, then)
    queue.add(timer, queue.now())
    return timer
  }
  return {
    add,
    advance,
    log,
    queue,
    /** `read`: somebody read the time right before, as a client with calls does. */
    setBack: (millis: number, read = false) => {
      if (read) queue.now()
      offset -= millis
      if (read) queue.now()
    },
    sleeping: () => sleeper !== undefined,
    sleeps: () => sleeps
  }
}

describe("the deadline queue", () => {
  it("fires each timer once, when its time has come", () => {
    const { add, advance, log, queue } = driven()
    add(10, 1)
    advance(9)
    assert.deepStrictEqual(log, [])
    advance(1)
    assert.deepStrictEqual(log, [1])
    advance(1_000)
    assert.deepStrictEqual(log, [1])
    assert.strictEqual(queue.size, 0)
  })

  it("fires in the order of time whatever the durations and the order they were added in", () => {
    const { add, advance, log } = driven()
    for (const millis of [50, 10, 30, 10, 20, 50, 40]) add(millis, millis)
    advance(5)
    for (const millis of [5, 10, 44]) add(millis, millis + 5)
    advance(100)
    assert.deepStrictEqual(log, [10, 10, 10, 15, 20, 30, 40, 49, 50, 50])
  })

  it("fires in the order of time also when it wakes late", () => {
    const { add, advance, log } = driven()
    for (const millis of [30, 10, 20]) add(millis, millis)
    advance(5)
    for (const millis of [30, 10, 20]) add(millis, millis + 5)
    advance(1_000, true)
    assert.deepStrictEqual(log, [10, 15, 20, 25, 30, 35])
  })

  it("never fires what was removed", () => {
    const { add, advance, log, queue } = driven()
    const timers = [10, 10, 10, 20, 20].map((millis, name) => add(millis, name))
    queue.remove(timers[1]!)
    queue.remove(timers[1]!)
    queue.remove(timers[3]!)
    assert.strictEqual(queue.size, 3)
    advance(100)
    assert.deepStrictEqual(log, [0, 2, 4])
    queue.remove(timers[0]!)
    assert.strictEqual(queue.size, 0)
  })

  it("never fires what is removed by one that fires before it", () => {
    const { add, advance, log, queue } = driven()
    let second: Noted | undefined
    let third: Noted | undefined
    add(10, 1, () => {
      queue.remove(second!)
      queue.remove(third!)
    })
    second = add(10, 2)
    add(10, 4)
    third = add(20, 3)
    advance(100, true)
    assert.deepStrictEqual(log, [1, 4])
    assert.strictEqual(queue.size, 0)
  })

  it("takes timers that are added while others fire", () => {
    const { add, advance, log, queue } = driven()
    add(10, 1, () => add(10, 2, () => add(5, 3)))
    advance(19)
    assert.deepStrictEqual(log, [1])
    advance(6)
    assert.deepStrictEqual(log, [1, 2, 3])
    assert.strictEqual(queue.size, 0)
  })

  it("fires a timer that is due or past already, but never while it is being added", () => {
    const { add, advance, log } = driven()
    add(0, 1)
    add(-500, 2)
    assert.deepStrictEqual(log, [])
    advance(0)
    assert.deepStrictEqual(log, [2, 1])
  })

  it("never fires a timer without an end, and still counts and lists it", () => {
    const { add, advance, log, queue, sleeping } = driven()
    const timer = add(Infinity, 1)
    assert.isFalse(sleeping())
    advance(1e12)
    assert.deepStrictEqual(log, [])
    assert.strictEqual(queue.size, 1)
    assert.deepStrictEqual([...queue], [timer])
    queue.remove(timer)
    assert.strictEqual(queue.size, 0)
    assert.deepStrictEqual([...queue], [])
  })

  it("lists every timer that waits, also while they are removed one by one", () => {
    const { add, queue } = driven()
    const timers = [5, 5, 10, 10, 10, Infinity].map((millis, name) => add(millis, name))
    assert.sameMembers([...queue], timers)
    const seen: Array<Timer> = []
    for (const timer of queue) {
      seen.push(timer)
      queue.remove(timer)
    }
    assert.sameMembers(seen, timers)
    assert.strictEqual(queue.size, 0)
  })

  it("is late by no more than the clock was set back when nobody read it, and never by more than 50 ms", () => {
    const { add, advance, log, setBack } = driven()
    add(100, 1)
    advance(60)
    setBack(50)
    add(100, 2)
    add(20, 3)
    advance(20)
    assert.deepStrictEqual(log, [3])
    advance(69)
    assert.deepStrictEqual(log, [3])
    advance(1)
    assert.deepStrictEqual(log, [3, 1])
    advance(10)
    assert.deepStrictEqual(log, [3, 1, 2])
  })

  it("does not sleep again for a timer that is later than the one it sleeps for", () => {
    const { add, sleeps } = driven()
    add(10, 1)
    for (let i = 0; i < 1_000; i++) add(10 + i, i)
    assert.strictEqual(sleeps(), 1)
    add(5, 2)
    assert.strictEqual(sleeps(), 2)
  })

  it("fires nothing after it was stopped", () => {
    const { add, advance, log, queue, sleeping } = driven()
    add(10, 1)
    queue.stop()
    assert.isFalse(sleeping())
    add(5, 2)
    assert.isFalse(sleeping())
    advance(1_000)
    assert.deepStrictEqual(log, [])
  })

  it("agrees with a sorted list through thousands of additions, removals, late wakes and clocks set back", () => {
    for (let seed = 1; seed <= 40; seed++) {
      const random = seeded(seed)
      const { add, advance, log, queue, setBack, sleeping } = driven()
      const { now } = queue
      const durations = [0, 1, 1, 5, 10, 10, 10, 100, 100.5, 1_000, 10_000, 10_000, -3, Infinity]
      let waiting: Array<Noted> = []
      let names = 0
      const expectFired = () => {
        const due = waiting.filter((timer) => timer.at <= now())
        const fired = log.splice(0)
        const byName = new Map(waiting.map((timer) => [timer.name, timer]))
        const times = fired.map((name) => byName.get(name)!.at)
        assert.deepStrictEqual(times, times.toSorted((a, b) => a - b), `seed ${seed}: order`)
        assert.sameMembers(fired, due.map((timer) => timer.name), `seed ${seed}: what fired`)
        waiting = waiting.filter((timer) => timer.at > now())
        assert.strictEqual(queue.size, waiting.length, `seed ${seed}: size`)
      }
      for (let step = 0; step < 400; step++) {
        const dice = random()
        if (dice < 0.6) {
          const pick = durations[Math.floor(random() * durations.length)]!
          waiting.push(add(random() < 0.3 ? Math.floor(random() * 2_000) : pick, names++))
        } else if (dice < 0.8 && waiting.length > 0) {
          const [gone] = waiting.splice(Math.floor(random() * waiting.length), 1)
          queue.remove(gone!)
        } else if (dice < 0.98) {
          const late = random() < 0.2
          advance(Math.floor(random() * random() * 500), late)
          expectFired()
        } else {
          setBack(Math.floor(random() * 100_000), true)
        }
        assert.strictEqual(queue.size, waiting.length, `seed ${seed}, step ${step}`)
        if (waiting.some((timer) => timer.at < Infinity)) assert.isTrue(sleeping(), `seed ${seed}, step ${step}`)
      }
      advance(20_000)
      expectFired()
      assert.isTrue(waiting.every((timer) => timer.at === Infinity))
      assert.sameMembers([...queue], waiting)
    }
  })

  it("fires in time whatever the clock says, and its time goes on from where it was", () => {
    for (const back of [100, 20_000, 3_600_000]) {
      const { add, advance, log, queue, setBack } = driven()
      advance(500)
      const before = queue.now()
      add(1_000, 1)
      advance(400)
      setBack(back)
      advance(599)
      assert.deepStrictEqual(log, [])
      advance(1)
      assert.deepStrictEqual(log, [1], `set back by ${back} ms`)
      assert.strictEqual(queue.now(), before + 1_000)
      assert.strictEqual(queue.ahead, back)
      add(200, 2)
      advance(200)
      assert.deepStrictEqual(log, [1, 2])
    }
  })

  it("fires the others when one throws, and says so", () => {
    const { add, advance, log, queue } = driven()
    add(10, 1)
    add(10, 2, () => {
      throw new Error("a stage's bug")
    })
    add(10, 3)
    assert.throws(() => advance(10), "a stage's bug")
    assert.deepStrictEqual([log, queue.size], [[1, 2, 3], 0])
    add(10, 4)
    advance(10)
    assert.deepStrictEqual(log, [1, 2, 3, 4])
  })

  it("keeps thousands of timers of one timeout in order, and forgets those that end in time", () => {
    const { add, advance, log, queue, sleeps } = driven()
    const timers: Array<Noted> = []
    for (let i = 0; i < 20_000; i++) {
      timers.push(add(10_000, i))
      if (i % 10 === 9) advance(1)
    }
    for (let i = 0; i < 20_000; i++) if (i % 1_000 !== 0) queue.remove(timers[i]!)
    assert.strictEqual(queue.size, 20)
    advance(20_000)
    assert.deepStrictEqual(log, Array.from({ length: 20 }, (_, i) => i * 1_000))
    assert.isAtMost(sleeps(), 41)
  })
})

describe("the deadline queue of a stack", () => {
  /** A stack on the test's clock, which counts those who sleep on it. */
  const counted = Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const sleepers = { now: 0, most: 0 }
    const counting = Layer.succeed(Clock.Clock, {
      ...clock,
      sleep: (duration) =>
        Effect.acquireUseRelease(
          Effect.sync(() => {
            sleepers.now++
            sleepers.most = Math.max(sleepers.most, sleepers.now)
          }),
          () => clock.sleep(duration),
          () => Effect.sync(() => sleepers.now--)
        )
    })
    const scope = yield* Scope.make()
    const context = yield* Layer.buildWithScope(Stack.layer("text").pipe(Layer.provide(counting)), scope)
    const stack = yield* Effect.provideContext(Stack, context)
    return { close: Scope.close(scope, Exit.void), sleepers, stack }
  })

  it.effect("follows the clock of the fiber that built it, with one fiber asleep for all timers", () =>
    Effect.gen(function*() {
      const { sleepers, stack } = yield* counted
      const log: Array<number> = []
      for (const millis of [1_000, 100, 500, 100, 2_000]) {
        stack.deadlines.add(new Noted(stack.now() + millis, millis, log), stack.now())
      }
      yield* TestClock.adjust("100 millis")
      assert.deepStrictEqual(log, [100, 100])
      yield* TestClock.adjust("900 millis")
      assert.deepStrictEqual(log, [100, 100, 500, 1_000])
      assert.strictEqual(sleepers.most, 1)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(stack.deadlines.size, 0)
      assert.strictEqual(sleepers.now, 0)
    }))

  it.effect("fires what is already due in the next turn, with one fiber asleep for the rest", () =>
    Effect.gen(function*() {
      const { sleepers, stack } = yield* counted
      const log: Array<number> = []
      stack.deadlines.add(new Noted(stack.now() + 50, 50, log), stack.now())
      stack.deadlines.add(new Noted(stack.now(), 0, log), stack.now())
      stack.deadlines.add(new Noted(stack.now() - 10, -10, log), stack.now())
      assert.deepStrictEqual(log, [])
      yield* settle
      assert.deepStrictEqual(log, [-10, 0])
      assert.strictEqual(sleepers.now, 1)
      yield* TestClock.adjust("50 millis")
      assert.deepStrictEqual(log, [-10, 0, 50])
    }))

  it.effect("fires what is due between two milliseconds of the clock, at the later one", () =>
    Effect.gen(function*() {
      const { stack } = yield* counted
      const log: Array<number> = []
      for (const at of [8275.770242, 0.4, 30.999]) stack.deadlines.add(new Noted(at, at, log), 0)
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(log, [0.4])
      yield* TestClock.adjust("8274 millis")
      assert.deepStrictEqual(log, [0.4, 30.999])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(log, [0.4, 30.999, 8275.770242])
    }))

  it.effect("ends its sleep with the scope", () =>
    Effect.gen(function*() {
      const { close, sleepers, stack } = yield* counted
      const log: Array<number> = []
      for (const millis of [0, 0, 10, 20]) stack.deadlines.add(new Noted(millis, millis, log), 0)
      yield* settle
      assert.strictEqual(sleepers.now, 1)
      yield* close
      assert.strictEqual(sleepers.now, 0)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(log, [0, 0])
    }))

  it.effect("aborts a call at its deadline with the time it was given", () =>
    Effect.gen(function*() {
      const { stack } = yield* counted
      const abort = new Abort(stack.now() + 250, 250)
      stack.deadlines.add(abort, stack.now())
      yield* TestClock.adjust("249 millis")
      assert.isUndefined(abort.reason)
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(abort.reason, { _tag: "Timeout", timeoutMillis: 250 })
    }))
})

/** What a suite is made of, and how it is run: one case after the other, each within its bound, all within a budget. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import type { BuildFailed, Missing } from "./Toolchain.ts"

/** How long the whole run may take, peers included; `.ci/run` allows a minute more, for what is downloaded on a first run. */
export const budget = Duration.minutes(13)

/** How long a case may take when it says nothing else: most end in milliseconds, a few start a JVM (2 s). */
const defaultBound = Duration.seconds(20)

/** Whether sizes are those of `--full` or those for CI. */
export const Full: Context.Reference<boolean> = Context.Reference<boolean>("@scales-rpc/interop/Full", {
  defaultValue: () => false
})

/** One behaviour: it holds when `run` succeeds. */
export interface Case<R> {
  /** A sentence, under the name of its theme. */
  readonly name: string
  readonly run: Effect.Effect<unknown, unknown, R>
  readonly bound: Duration.Duration
}

/** States a behaviour and shows it, in a scope that closes with the case. */
export const holds = <R>(
  name: string,
  run: Effect.Effect<unknown, unknown, R>,
  bound: Duration.Input = defaultBound
): Case<Exclude<R, Scope.Scope>> => ({ name, run: Effect.scoped(run), bound: Duration.fromInputUnsafe(bound) })

/** The cases of one theme. */
export const theme = <R>(name: string, cases: ReadonlyArray<Case<R>>): ReadonlyArray<Case<R>> =>
  cases.map((one) => ({ ...one, name: `${name}: ${one.name}` }))

/** How many cases ended how. */
export interface Tally {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
}

/** Why a case failed, and where in the suite. */
const reason = (cause: Cause.Cause<unknown>): string => {
  const error = Cause.squash(cause)
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error)
  const stack = error instanceof Error ? error.stack?.split("\n") ?? [] : []
  const places = stack.filter((line) => /^ +at .*packages\/interop\/src/.test(line))
  return [...text.split("\n").slice(0, 40), ...places].map((line) => `    ${line}`).join("\n")
}

const report = (ok: boolean, name: string, started: number) =>
  Effect.sync(() => console.log(`${ok ? "ok    " : "FAILED"} ${name} ${Math.round(performance.now() - started)} ms`))

/** Runs cases and prints a line for each. `deadline` is when the budget is over, on the clock of `performance.now`. */
export const run = <R>(cases: ReadonlyArray<Case<R>>, deadline: number): Effect.Effect<Tally, never, R> =>
  Effect.gen(function*() {
    let failed = 0
    for (const one of cases) {
      const started = performance.now()
      const bound = Math.min(Duration.toMillis(one.bound), deadline - started)
      const exit = yield* Effect.exit(
        bound <= 0
          ? Effect.fail("the suite's budget is spent")
          : Effect.timeoutOrElse(one.run, {
            duration: bound,
            orElse: () => Effect.fail(`not over within ${Math.round(bound)} ms`)
          })
      )
      yield* report(Exit.isSuccess(exit), one.name, started)
      if (Exit.isSuccess(exit)) continue
      // The run itself was stopped: this is no verdict on the case.
      if (Cause.hasInterruptsOnly(exit.cause)) return yield* Effect.interrupt
      failed++
      console.log(reason(exit.cause))
    }
    return { passed: cases.length - failed, failed, skipped: 0 }
  })

/** What a family's cases come to when none of them can be run, for `why`. */
export const fail = (family: string, cases: number, why: string): Effect.Effect<Tally> =>
  Effect.sync(() => {
    console.log(`FAILED ${family}: ${why}`)
    return { passed: 0, failed: cases, skipped: 0 }
  })

/** The same when a tool of the machine's is missing: CI has them all, elsewhere it is nobody's fault. */
export const skip = (family: string, cases: number, why: string): Effect.Effect<Tally> =>
  Effect.suspend(() => {
    if (process.env["CI"] !== undefined && process.env["CI"] !== "") return fail(family, cases, why)
    console.log(`skipped ${family}: ${why}`)
    return Effect.succeed({ passed: 0, failed: 0, skipped: cases })
  })

/**
 * Runs the cases of some groups that `select` picks, each group once what it needs is there. What is missing is a failure in CI, elsewhere its
 * cases are skipped; what cannot be built is a failure everywhere.
 */
export const runGroups = <Group extends string, R>(
  family: string,
  groups: Readonly<Record<Group, ReadonlyArray<Case<R>>>>,
  prepare: (group: Group) => Effect.Effect<void, Missing | BuildFailed>,
  select: (name: string) => boolean,
  deadline: number
): Effect.Effect<Tally, never, R> =>
  Effect.gen(function*() {
    const total = { passed: 0, failed: 0, skipped: 0 }
    for (const group of Object.keys(groups) as Array<string> as Array<Group>) {
      const selected = groups[group].filter(({ name }) => select(name))
      if (selected.length === 0) continue
      const name = `${family}, ${group}`
      const tally = yield* prepare(group).pipe(
        Effect.andThen(run(selected, deadline)),
        Effect.catchTag("Missing", ({ what }) => skip(name, selected.length, what)),
        Effect.catchTag("BuildFailed", ({ message }) => fail(name, selected.length, message))
      )
      total.passed += tally.passed
      total.failed += tally.failed
      total.skipped += tally.skipped
    }
    return total
  })

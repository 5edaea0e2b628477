/** Runs schedules of a subject and makes the first that fails short. */
import { drawer, generate, type Grammar, type Schedule } from "./grammar.ts"
import { shrink } from "./shrink.ts"

/** Something that schedules are run against. */
export interface Subject {
  /** What the command calls it. */
  readonly name: string
  readonly grammar: Grammar
  /** Runs one schedule; rejects when a rule is broken. */
  readonly run: (schedule: Schedule) => Promise<void>
}

/** A schedule that broke a rule. */
export interface Failing {
  readonly index: number
  readonly what: string
  readonly schedule: Schedule
  readonly shortest: Schedule
}

/** Throws when a rule is broken. The text is made only then: there are millions of checks. */
export const must: (holds: boolean, what: () => string) => asserts holds = (holds, what) => {
  if (!holds) throw new Error(what())
}

/** What happens at the end of this turn, the sessions' write among it, has happened. */
export const turn = (): Promise<void> => Promise.resolve()

/** What broke in one run, `undefined` if nothing did. */
export const attempt = async (subject: Subject, schedule: Schedule): Promise<Error | undefined> => {
  let fault: unknown
  // A session writes at the end of a turn: what it throws there reaches no caller.
  const uncaught = (error: unknown) => {
    fault ??= error
  }
  process.on("uncaughtException", uncaught)
  try {
    await subject.run(schedule)
  } catch (error) {
    fault ??= error
  } finally {
    process.off("uncaughtException", uncaught)
  }
  return fault === undefined || fault instanceof Error ? fault : new Error(String(fault))
}

/** Runs the schedules from one index to before another of a seed, until one fails. */
export const explore = async (
  subject: Subject,
  seed: number,
  from: number,
  to: number
): Promise<Failing | undefined> => {
  for (let index = from; index < to; index++) {
    const schedule = generate(subject.grammar, drawer(seed, index))
    if ((await attempt(subject, schedule)) === undefined) continue
    const shortest = await shrink(schedule, async (next) => (await attempt(subject, next)) !== undefined)
    const error = await attempt(subject, shortest)
    return { index, what: error?.message ?? "it fails no more", schedule, shortest }
  }
  return undefined
}

/** What a failing schedule is told as, with what runs it again. */
export const report = (subject: Subject, seed: number, { index, schedule, shortest, what }: Failing): string =>
  [
    `FAILED ${subject.name}, seed ${seed}, schedule ${index}: ${what}`,
    `  shrunk from ${schedule.steps.length} steps to ${shortest.steps.length}: ${JSON.stringify(shortest)}`,
    `  again: npm run schedules -- --side ${subject.name} --seed ${seed} --index ${index}`,
    `  the short one: npm run schedules -- --side ${subject.name} --replay '${JSON.stringify(shortest)}'`
  ].join("\n")

/** What is said at the end of the demo, and whether it ended well. */
import type { Result } from "./demo.ts"
import * as Tally from "./tally.ts"

/** The figures of `--json`. */
export interface Figures {
  readonly calls: number
  readonly ok: number
  /** By the tag of the error. */
  readonly failed: Readonly<Record<string, number>>
  /** Replies that were not what was asked for. */
  readonly wrong: number
  /** Attempts that provably never ran and were made again. */
  readonly requeued: number
  readonly leakedTags: number
  readonly leakedLoads: number
  /** `null` when no server was killed, or none came back. */
  readonly recoveredMs: number | null
  readonly seconds: number
  readonly callsPerSecond: number
}

/** The figures of a result. */
export const figures = ({ last, met, seconds, tally }: Result): Figures => ({
  calls: tally.calls,
  ok: tally.ok,
  failed: Tally.failures(tally),
  wrong: tally.wrong,
  requeued: last.requeues,
  leakedTags: last.tags,
  leakedLoads: last.loads,
  recoveredMs: met?.recoveredMs ?? null,
  seconds: Math.round(seconds * 10) / 10,
  callsPerSecond: Math.round(tally.calls / seconds)
})

/** What is wrong with it; empty when all is well. */
export const faults = ({ last, met, tally }: Result): ReadonlyArray<string> => [
  ...(tally.ok === 0 ? ["No call succeeded."] : []),
  ...(tally.wrong > 0 ? [`${tally.wrong} replies were not what was asked for.`] : []),
  ...(last.tags + last.loads + last.outstanding > 0
    ? [`Leaked: ${last.tags} tags, ${last.loads} loads, ${last.outstanding} calls.`]
    : []),
  ...(met !== undefined && met.recoveredMs === undefined ? ["The killed server was not taken back."] : [])
]

/** What happened, in sentences. */
export const sentences = (result: Result): ReadonlyArray<string> => {
  const { calls, callsPerSecond, ok, recoveredMs, requeued, seconds, wrong } = figures(result)
  const whole = (value: number) => value.toLocaleString("en")
  const problems = faults(result)
  return [
    `${whole(calls)} calls in ${seconds} s, ${whole(callsPerSecond)} a second: ${whole(ok)} ok, ${
      whole(calls - ok - wrong)
    } failed, ` +
    `${whole(wrong)} wrong replies.`,
    ...Array.from(
      result.tally.failed,
      ([tag, { count, example }]) =>
        `  ${whole(count)} ${tag}, such as: ${example}${meaning[tag] === undefined ? "" : `\n    ${meaning[tag]}`}`
    ),
    ...(requeued > 0
      ? [`${whole(requeued)} attempts never reached a server and were made again.`]
      : []),
    ...(recoveredMs === null ? [] : [`The killed server had its first call ${recoveredMs} ms after it was back.`]),
    ...(problems.length === 0 ? ["Nothing leaked: every tag, load and call is accounted for."] : problems)
  ]
}

/** What a reader may want to know of an error. */
const meaning: Readonly<Record<string, string>> = {
  ConnectionClosed:
    "Sent to the killed server and not answered: it may have run, so only its caller can say whether to send it again.",
  FastFailure: "No server was up: such a call fails at once and says why, rather than wait for its deadline."
}

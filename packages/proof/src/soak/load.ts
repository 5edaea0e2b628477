/** The soak's callers: calls of every kind and size, deadlines that pass, callers who leave, refusals, declared exceptions. */
import { Rpc } from "@scales-rpc/core"
import { Cause, Effect, Exit } from "effect"
import Int64 from "node-int64"
import type { Echo } from "../../../examples/src/echo.ts"

/** What came of the calls. */
export interface Tally {
  calls: number
  ok: number
  /** Replies that were another's, or not what they should be. */
  wrong: number
  /** By tag. */
  readonly failures: Record<string, number>
}

/** The bytes that blobs are cut from. */
const bytes = Buffer.from(Array.from({ length: 128 * 1024 }, (_, index) => (index * 31 + (index >> 8)) & 0xff))
const largest = 64 * 1024

/** One call of some kind. Gives whether the reply was the right one. */
const call = (echo: Echo["Service"], random: () => number) => {
  const below = (bound: number) => Math.floor(random() * bound)
  const dice = random()
  if (dice < 0.55) {
    const start = below(bytes.length - largest)
    const blob = bytes.subarray(start, start + below(random() < 0.8 ? 500 : largest + 1))
    return Effect.map(echo.blob(blob), (reply) => blob.equals(reply))
  }
  // A deadline that mostly passes.
  if (dice < 0.65) return Effect.as(echo.slow(5 + below(20)).pipe(Rpc.deadline(1 + below(10))), true)
  // A caller who leaves.
  if (dice < 0.75) {
    return Effect.as(Effect.raceFirst(Effect.asVoid(echo.slow(5 + below(20))), Effect.sleep(below(10))), true)
  }
  if (dice < 0.85) return Effect.as(echo.touch("refused"), true)
  if (dice < 0.95) return Effect.as(echo.fail("no", new Int64(below(2))), false)
  return Effect.as(echo.note("said"), true)
}

/** Calls with a breath between, until told to stop. */
export const caller = (echo: Echo["Service"], tally: Tally, random: () => number, stopped: () => boolean) =>
  Effect.gen(function*() {
    while (!stopped()) {
      tally.calls++
      const exit = yield* Effect.exit(call(echo, random))
      if (Exit.isSuccess(exit)) {
        if (exit.value) tally.ok++
        else tally.wrong++
      } else {
        const error = Cause.squash(exit.cause)
        const tag = typeof error === "object" && error !== null && "_tag" in error ? String(error._tag) : "Defect"
        tally.failures[tag] = (tally.failures[tag] ?? 0) + 1
      }
      yield* Effect.sleep(random() * 4)
    }
  })

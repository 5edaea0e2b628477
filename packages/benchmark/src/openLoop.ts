/**
 * An open loop: calls begin at a fixed rate, whether those before them have ended or not, and each is timed from when it should have begun. A
 * closed loop that is held up sends less and so hides how long its users would have waited ("coordinated omission"); this one does not.
 *
 * The event loop is kept spinning: a timer of Node's is a millisecond wide, and would be most of what is measured. So the client's process has
 * all of a core, and its CPU is not what this measures.
 */
import type { Timed } from "./Child.ts"
import { Latencies } from "./Latencies.ts"
import type { Client } from "./Load.ts"
import type { Work } from "./workload.ts"

/** How fast, and for how long. */
export interface OpenLoop {
  /** Calls a second. */
  readonly rate: number
  /** Calls of the first so many milliseconds are not timed. */
  readonly settleMillis: number
  /** Those of so many after them are. */
  readonly millis: number
}

/** Milliseconds of the clock, and what runs a turn later; those of Node unless a test has others. */
export interface Turns {
  readonly now: () => number
  readonly next: (turn: () => void) => void
}

const nodeTurns: Turns = { now: () => performance.now(), next: (turn) => void setImmediate(turn) }

/** How many calls should have begun so many milliseconds after the start: the first at once, then one each 1000 / rate. */
export const dueBy = (millis: number, rate: number): number => Math.floor(millis * rate / 1000) + 1

/** When the call of that number, counted from 0, should begin, in milliseconds after the start. */
export const dueAt = (call: number, rate: number): number => call * 1000 / rate

/** Runs it to the last reply; a client that cannot keep up is late for that. Rejects when a call fails or a reply is wrong. */
export const openLoop = (
  client: Client,
  work: Work,
  { millis, rate, settleMillis }: OpenLoop,
  turns: Turns = nodeTurns
): Promise<Timed> =>
  new Promise((resolve, reject) => {
    const { next, now } = turns
    const latencies = new Latencies()
    const started = now()
    const total = dueBy(settleMillis + millis, rate)
    let begun = 0
    let ended = 0
    let failed = false

    const fail = (error: unknown): void => {
      failed = true
      reject(error instanceof Error ? error : new Error(String(error)))
    }

    const begin = (call: number): void => {
      const due = dueAt(call, rate)
      client.begin(work, (error, reply) => {
        const at = now() - started
        ended++
        if (failed) return
        if (reply === undefined) return fail(error)
        const wrong = work.wrongIn(reply)
        if (wrong !== undefined) return fail(new Error(`wrong reply: ${wrong}`))
        if (due >= settleMillis) latencies.add(at - due)
        if (ended < total) return
        const latency = latencies.quantiles()
        resolve({ ...latency, callsPerSecond: latency.calls * 1000 / (at - settleMillis) })
      })
    }

    const turn = (): void => {
      if (failed) return
      const due = Math.min(dueBy(now() - started, rate), total)
      while (begun < due) begin(begun++)
      if (begun < total || ended < total) next(turn)
    }
    turn()
  })

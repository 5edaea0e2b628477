/**
 * Changes of state as log lines: each once, with annotations in place of text that has to be taken apart, and few in a storm. A call never logs.
 */
import * as Effect from "effect/Effect"
import * as LogLevel from "effect/LogLevel"
import { CallAt, type Deadlines } from "./Deadlines.ts"
import { withoutSecrets } from "./internal/plain.ts"

/** How much a line matters. */
export type Level = "debug" | "info" | "warning" | "error"

/** How many lines of one message there are in `stormMillis` before the rest is only counted. */
const linesInAStorm = 10
const stormMillis = 10_000

const logLevels = { debug: "Debug", info: "Info", warning: "Warn", error: "Error" } as const
const log = { debug: Effect.logDebug, info: Effect.logInfo, warning: Effect.logWarning, error: Effect.logError }

/** Lines of one message in one storm. */
interface Storm {
  level: Level
  /** When its first line was written. */
  since: number
  lines: number
  leftOut: number
  /** Tells how many were left out; `undefined` while none was. */
  end: CallAt | undefined
}

/** Writes the lines of one client or server. */
export class StateLog {
  readonly #annotations: Readonly<Record<string, unknown>>
  readonly #deadlines: Deadlines
  readonly #run: (effect: Effect.Effect<void>) => unknown
  /** By message: as many as there are kinds of changes. */
  readonly #storms = new Map<string, Storm>()

  /** `annotations` are added to each line; `run` runs an effect of its scope. */
  constructor(
    annotations: Readonly<Record<string, unknown>>,
    deadlines: Deadlines,
    run: (effect: Effect.Effect<void>) => unknown
  ) {
    this.#annotations = annotations
    this.#deadlines = deadlines
    this.#run = run
  }

  /**
   * Writes a line, unless ten of this message were written in the last ten seconds: those are counted, and one more line says how many were
   * `leftOut` when the ten seconds have passed, or when the client or server closes. `message` is the same for all changes of a kind; what
   * differs is in the annotations. Text in them is shown without what a URI says of its user.
   */
  say(level: Level, message: string, annotations: Readonly<Record<string, unknown>> = {}): void {
    const storm = this.#stormOf(level, message)
    if (storm.lines < linesInAStorm) {
      storm.lines++
      this.#write(level, message, annotations)
      return
    }
    storm.leftOut++
    if (storm.end !== undefined) return
    storm.end = new CallAt(storm.since + stormMillis, () => this.#sum(message, storm))
    this.#deadlines.add(storm.end, this.#deadlines.now())
  }

  /** Says what was left out until now, and waits for nothing any more. */
  close(): void {
    for (const [message, storm] of this.#storms) this.#sum(message, storm)
    this.#storms.clear()
  }

  #stormOf(level: Level, message: string): Storm {
    const now = this.#deadlines.now()
    let storm = this.#storms.get(message)
    if (storm === undefined) {
      storm = { level, since: now, lines: 0, leftOut: 0, end: undefined }
      this.#storms.set(message, storm)
    } else if (now - storm.since >= stormMillis) {
      // Its timer is due in this turn, and may not have fired.
      this.#sum(message, storm)
      storm.level = level
      storm.since = now
      storm.lines = 0
    }
    return storm
  }

  #sum(message: string, storm: Storm): void {
    if (storm.end === undefined) return
    this.#deadlines.remove(storm.end)
    storm.end = undefined
    this.#write(storm.level, message, { leftOut: storm.leftOut })
    storm.leftOut = 0
  }

  #write(level: Level, message: string, annotations: Readonly<Record<string, unknown>>): void {
    const line = Effect.suspend(() =>
      Effect.annotateLogs(log[level](message), { ...this.#annotations, ...withoutSecrets(annotations) })
    )
    // Text is looked through only for somebody who reads it.
    this.#run(Effect.flatMap(LogLevel.isEnabled(logLevels[level]), (read) => read ? line : Effect.void))
  }
}

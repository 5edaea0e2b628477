/** What a scenario came to, and which of its bounds are broken. */

/** The figures of one scenario. Times are milliseconds. */
export interface Figures {
  readonly calls: number
  readonly failures: number
  /** Failures by the tag of their error. */
  readonly byTag: Readonly<Record<string, number>>
  /** Replies that were not what their request asked for. */
  readonly wrong: number
  /** Calls, attempts, tags and deadlines that the client still had some seconds after the last call was begun. */
  readonly leaked: number
  /** The longest call, from when it was due. */
  readonly slowestMs: number
  /** From the first fault to the last failure of all; 0: none failed. */
  readonly quietAfterMs: number
  /** From the moment when the last server was well again to the last failure; 0: none failed later than that. */
  readonly quietAfterBackMs: number
  /**
   * From the moment when a server was well again until it had answered a call that was sent to it later, the longest of all; `null`: one did not
   * within 15 seconds.
   */
  readonly backAfterMs: number | null
  /** From a fault until the server was well again, restarts included, the longest of all: how long a client had to do without. */
  readonly faultMs: number
  /** From a fault until the client took the server out of use, the longest of all; `null`: one was not. */
  readonly foundOutMs: number | null
  /**
   * Calls that a fault can cost: in flight on a server at its fault (the client's own load there, read just before), and sent to it from
   * then until the client took it out of use.
   */
  readonly atRisk: number
  /** Calls sent to a server at fault after the client had taken it out of use. */
  readonly probes: number
  /** Connections made from the first fault on. */
  readonly connects: number
  /** Attempts at one that failed. */
  readonly connectFailures: number
  /** Answers a second of the servers without a fault, while others had one, against before; `null`: there was none without. */
  readonly othersKept: number | null
}

/** Which calls may fail: none; those at risk; those and the probes; or any (nothing is up). */
export type Allowed = "none" | "at risk" | "at risk and probes" | "any"

/** What a scenario may come to. Times are wall-clock milliseconds of recovery, with slack for a busy machine of two cores. */
export interface Bounds {
  readonly failures: Allowed
  /** How many calls may be at risk. */
  readonly atRisk?: number
  readonly foundOutMs?: number
  /** How many calls may be sent to a server after it was found out. */
  readonly probes?: number
  /** Holds when nothing was probed: a probe fails when it fails. */
  readonly quietAfterMs?: number
  readonly quietAfterBackMs?: number
  readonly backAfterMs: number
  readonly slowestMs: number
  /** The least share of their answers that the other servers must keep. */
  readonly othersKept?: number
}

const allowed = (figures: Figures, which: Allowed): number =>
  which === "none"
    ? 0
    : which === "at risk"
    ? figures.atRisk
    : which === "at risk and probes"
    ? figures.atRisk + figures.probes
    : Infinity

/** Each broken bound in a sentence that names it; nothing if all hold. */
export const broken = (figures: Figures, bounds: Bounds): ReadonlyArray<string> => {
  const faults: Array<string> = []
  const most = (what: keyof Figures & keyof Bounds, bound: number | undefined) => {
    const value = figures[what]
    if (bound === undefined) return
    if (value === null) faults.push(`${what}: never, at most ${bound} allowed`)
    else if (value > bound) faults.push(`${what}: ${value}, at most ${bound} allowed`)
  }
  if (figures.calls === 0) faults.push("calls: none was made")
  if (figures.wrong !== 0) faults.push(`wrong: ${figures.wrong}, none allowed`)
  if (figures.leaked !== 0) faults.push(`leaked: ${figures.leaked}, none allowed`)
  const failures = allowed(figures, bounds.failures)
  if (figures.failures > failures) {
    faults.push(`failures: ${figures.failures}, at most ${failures} allowed (${bounds.failures})`)
  }
  most("atRisk", bounds.atRisk)
  most("foundOutMs", bounds.foundOutMs)
  most("probes", bounds.probes)
  if (figures.probes === 0) most("quietAfterMs", bounds.quietAfterMs)
  most("quietAfterBackMs", bounds.quietAfterBackMs)
  most("backAfterMs", bounds.backAfterMs)
  most("slowestMs", bounds.slowestMs)
  if (bounds.othersKept !== undefined && (figures.othersKept ?? 0) < bounds.othersKept) {
    faults.push(`othersKept: ${figures.othersKept}, at least ${bounds.othersKept} allowed`)
  }
  return faults
}

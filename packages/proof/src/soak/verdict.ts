/** What was measured at one point of a soak, and whether the points are flat. */

/** The client's process, or a server's, while nothing is asked of it. */
export interface Point {
  /** Bytes of the heap in use, garbage collected. */
  readonly heap: number
  /** Resources of the event loop by Node's names for them, timers among them. */
  readonly handles: Readonly<Record<string, number>>
  readonly sockets: number
  /** Fibers that live. */
  readonly fibers: number
  /** Calls that wait, or requests that run. */
  readonly outstanding: number
  /** Tags that are held, attempts that the balancer counts. */
  readonly tags: number
  readonly loads: number
  readonly sessions: number
}

/** The point that the last is held against: by then code is compiled, and whatever grows to a size has it. */
const reference = 2

/** How much the heap may have grown since then. Runs of 10 to 95 seconds without a leak grew by about 1 % (measured). */
const growth = 1.15

/** What must not be higher at the last point than at the reference. */
const counted = ["sockets", "fibers", "sessions"] as const

/** What must be 0 at each point: nobody calls. */
const none = ["outstanding", "tags", "loads"] as const

/** What is not flat in these points of one process, in sentences; nothing if all is. */
export const rising = (name: string, points: ReadonlyArray<Point>): ReadonlyArray<string> => {
  const third = points[reference]
  const last = points.at(-1)
  if (third === undefined || last === undefined) return [`${name}: ${points.length} points`]
  const faults: Array<string> = []
  if (last.heap > third.heap * growth) faults.push(`${name}: heap went from ${third.heap} to ${last.heap} bytes`)
  for (const what of counted) {
    if (last[what] > third[what]) faults.push(`${name}: ${what} went from ${third[what]} to ${last[what]}`)
  }
  for (const [kind, count] of Object.entries(last.handles)) {
    const before = third.handles[kind] ?? 0
    if (count > before) faults.push(`${name}: ${kind} handles went from ${before} to ${count}`)
  }
  for (const [at, point] of points.entries()) {
    for (const what of none) if (point[what] !== 0) faults.push(`${name}: ${point[what]} ${what} at point ${at + 1}`)
  }
  return faults
}

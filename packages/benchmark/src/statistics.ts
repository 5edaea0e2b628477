/** The few numbers that a series of measurements comes to. */

/** The value below which that share of the sorted values lies, between two of them in proportion. */
const quantile = (sorted: ReadonlyArray<number>, share: number): number => {
  const at = share * (sorted.length - 1)
  const below = sorted[Math.floor(at)]!
  const above = sorted[Math.ceil(at)]!
  return below + (above - below) * (at - Math.floor(at))
}

/** A series in three numbers: half of it lies between the quartiles. */
export interface Summary {
  readonly median: number
  readonly quartiles: readonly [lower: number, upper: number]
}

/** Sums up a series, which must not be empty. */
export const summarize = (values: ReadonlyArray<number>): Summary => {
  if (values.length === 0) throw new RangeError("nothing to sum up")
  const sorted = values.toSorted((a, b) => a - b)
  return { median: quantile(sorted, 0.5), quartiles: [quantile(sorted, 0.25), quantile(sorted, 0.75)] }
}

/**
 * The ratios of two series that were measured by turns, one of each a round: each of `above` against its neighbour of the same
 * round in `below`. What slows a machine down for seconds slows both, and cancels out; medians of each series alone would not.
 */
export const neighbourRatios = (above: ReadonlyArray<number>, below: ReadonlyArray<number>): ReadonlyArray<number> => {
  if (above.length !== below.length) throw new RangeError(`${above.length} rounds against ${below.length}`)
  return above.map((value, round) => value / below[round]!)
}

/** Whether the last `count` values are within that share of each other. */
export const isSteady = (values: ReadonlyArray<number>, count: number, share: number): boolean => {
  const last = values.slice(-count)
  return last.length === count && Math.max(...last) <= Math.min(...last) * (1 + share)
}

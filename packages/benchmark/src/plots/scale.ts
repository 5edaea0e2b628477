/** Where values lie on an axis, and which of them are written beside it. */

/** An axis between two places. */
export interface Scale {
  /** Where a value lies. */
  readonly at: (value: number) => number
  readonly ticks: ReadonlyArray<number>
}

/** A round step of about a fifth of the span. */
const stepOf = (span: number): number => {
  const rough = span / 5
  const power = 10 ** Math.floor(Math.log10(rough))
  return power * [1, 2, 2.5, 5, 10].find((factor) => power * factor >= rough * 0.999)!
}

/** From 0 to a round value that is no less than the greatest. */
export const linear = (greatest: number, from: number, to: number): Scale => {
  const step = stepOf(greatest)
  const count = Math.ceil(greatest / step - 1e-9)
  const end = count * step
  return {
    at: (value) => from + (to - from) * value / end,
    ticks: Array.from({ length: count + 1 }, (_, i) => Number((i * step).toPrecision(12)))
  }
}

/** Each decade as long as any other; with 2 and 5 between them while there are few. */
export const logarithmic = (least: number, greatest: number, from: number, to: number): Scale => {
  const low = Math.log10(least)
  const high = Math.log10(greatest)
  const span = Math.max(high - low, 0.1)
  const start = low - span * 0.04
  const end = high + span * 0.04
  const ticks: Array<number> = []
  for (let power = Math.floor(start); power <= Math.ceil(end); power++) {
    for (const factor of span > 2.5 ? [1] : span > 1.2 ? [1, 3] : [1, 2, 5]) {
      const tick = Number((factor * 10 ** power).toPrecision(3))
      if (Math.log10(tick) >= start && Math.log10(tick) <= end) ticks.push(tick)
    }
  }
  return { at: (value) => from + (to - from) * (Math.log10(value) - start) / (end - start), ticks }
}

/** A value in few characters: three digits, thousands apart. */
export const told = (value: number): string => {
  if (value === 0) return "0"
  const rounded = Number(value.toPrecision(3))
  return Math.abs(rounded) >= 1000 ? Math.round(rounded).toLocaleString("en-US") : String(rounded)
}

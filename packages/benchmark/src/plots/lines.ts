/** Lines over an axis of numbers, each named at its right end. */
import { linear, logarithmic, type Scale, told } from "./scale.ts"
import { line, mark, path, picture, text, under, upwards, width } from "./svg.ts"

/** One line: its points by x. */
export interface Series {
  readonly name: string
  readonly points: ReadonlyArray<readonly [x: number, y: number]>
}

/** A plot of lines. */
export interface Lines {
  readonly title: string
  readonly description: string
  readonly xAxis: string
  readonly yAxis: string
  /** Logarithmic unless it begins at 0. */
  readonly x: "logarithmic" | "linear"
  readonly y: "logarithmic" | "linear"
  readonly series: ReadonlyArray<Series>
  /** A value of y that is aimed at, and what it is called. */
  readonly aim?: { readonly value: number; readonly name: string } | undefined
}

const top = 52
const bottom = 372

/** Names that would lie on each other are moved apart, each no further than it must be. */
const apart = (wanted: ReadonlyArray<number>, least: number): ReadonlyArray<number> => {
  const order = wanted.map((_, i) => i).toSorted((a, b) => wanted[a]! - wanted[b]!)
  const placed = wanted.slice()
  for (let round = 0; round < 200; round++) {
    for (let i = 1; i < order.length; i++) {
      const above = order[i - 1]!
      const below = order[i]!
      const overlap = least - (placed[below]! - placed[above]!)
      if (overlap <= 0) continue
      placed[above] = placed[above]! - overlap / 2
      placed[below] = placed[below]! + overlap / 2
    }
  }
  return placed
}

/** Draws it. */
export const lines = (plot: Lines): string => {
  const { aim, description, series, title, xAxis, yAxis } = plot
  const left = 74
  const right = width - 34 - 7.2 * Math.max(...series.map(({ name }) => name.length))
  const xs = [...new Set(series.flatMap(({ points }) => points.map(([x]) => x)))].toSorted((a, b) => a - b)
  const ys = series.flatMap(({ points }) => points.map(([, y]) => y))
  const values = aim === undefined ? ys : [...ys, aim.value]
  const xScale: Scale = plot.x === "linear"
    ? linear(xs.at(-1)!, left, right)
    // What was measured, and nothing between.
    : { ...logarithmic(xs[0]!, xs.at(-1)!, left, right), ticks: xs }
  const yScale = plot.y === "linear"
    ? linear(Math.max(...values), bottom, top)
    : logarithmic(Math.min(...values), Math.max(...values), bottom, top)
  const grid = [
    ...yScale.ticks.flatMap((tick) => [
      line(left, yScale.at(tick), right, yScale.at(tick), "grid"),
      text(left - 8, yScale.at(tick) + 4, told(tick), "end", "quiet small")
    ]),
    ...xScale.ticks.map((tick) => text(xScale.at(tick), bottom + 18, told(tick), "middle", "quiet small")),
    line(left, bottom, right, bottom, "axis")
  ]
  const ends = apart(series.map(({ points }) => yScale.at(points.at(-1)![1])), 16)
  const drawn = series.flatMap(({ name, points }, i) => {
    const placed = points.map(([x, y]): readonly [number, number] => [xScale.at(x), yScale.at(y)])
    const [endX, endY] = placed.at(-1)!
    return [
      path(placed, `line l${i}`),
      ...placed.map(([x, y]) => mark(x, y, i)),
      line(endX + 7, endY, endX + 16, ends[i]!, "axis"),
      text(endX + 20, ends[i]! + 4.5, name)
    ]
  })
  return picture(bottom + 56, title, description, [
    ...grid,
    ...(aim === undefined ? [] : [
      line(left, yScale.at(aim.value), right, yScale.at(aim.value), "axis aim"),
      text(left + 6, yScale.at(aim.value) - 6, aim.name, "start", "quiet small")
    ]),
    ...drawn,
    under((left + right) / 2, bottom + 42, xAxis),
    upwards(20, (top + bottom) / 2, yAxis)
  ])
}

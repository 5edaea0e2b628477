/** Bars that lie: one row a name, with its value written at its end. */
import { linear, told } from "./scale.ts"
import { line, picture, rectangle, text, under, width } from "./svg.ts"

/** One bar. */
export interface Bar {
  readonly name: string
  readonly value: number
  /** Half of the rounds lie between these. */
  readonly quartiles?: readonly [number, number] | undefined
  /** Ours: it is the one that is looked for. */
  readonly ours?: boolean | undefined
}

/** A plot of bars. */
export interface Bars {
  readonly title: string
  readonly description: string
  /** Under the axis, with the unit. */
  readonly axis: string
  readonly bars: ReadonlyArray<Bar>
  /** Behind each value. */
  readonly unit?: string | undefined
}

const row = 30
const top = 46

/** Draws it. */
export const bars = ({ axis, bars, description, title, unit = "" }: Bars): string => {
  const left = 26 + 7.2 * Math.max(...bars.map(({ name }) => name.length))
  const right = width - 90
  const bottom = top + row * bars.length
  const scale = linear(
    Math.max(...bars.map(({ quartiles, value }) => Math.max(value, quartiles?.[1] ?? 0))),
    left,
    right
  )
  const grid = scale.ticks.flatMap((tick) => [
    line(scale.at(tick), top, scale.at(tick), bottom, tick === 0 ? "axis" : "grid"),
    text(scale.at(tick), bottom + 18, told(tick), "middle", "quiet small")
  ])
  const rows = bars.flatMap(({ name, ours, quartiles, value }, i) => {
    const y = top + row * i
    const middle = y + row / 2
    const end = Math.max(scale.at(value), quartiles === undefined ? 0 : scale.at(quartiles[1]))
    return [
      text(left - 10, middle + 4.5, name, "end"),
      rectangle(left, y + 6, Math.max(1, scale.at(value) - left), row - 12, ours === true ? "f0" : "f7"),
      ...(quartiles === undefined ? [] : [
        line(scale.at(quartiles[0]), middle, scale.at(quartiles[1]), middle, "whisker"),
        ...quartiles.map((quartile) => line(scale.at(quartile), middle - 4, scale.at(quartile), middle + 4, "whisker"))
      ]),
      text(end + 8, middle + 4.5, `${told(value)}${unit}`)
    ]
  })
  return picture(bottom + 56, title, description, [
    ...grid,
    ...rows,
    under((left + right) / 2, bottom + 42, axis)
  ])
}

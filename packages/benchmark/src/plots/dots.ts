/** Marks on rows: several values a name, on one logarithmic axis, joined by a line. */
import { logarithmic, told } from "./scale.ts"
import { line, mark, picture, text, under, width } from "./svg.ts"

/** A plot of marks. */
export interface Dots {
  readonly title: string
  readonly description: string
  /** Under the axis, with the unit. */
  readonly axis: string
  /** What each mark of a row is. */
  readonly marks: ReadonlyArray<string>
  readonly rows: ReadonlyArray<{ readonly name: string; readonly values: ReadonlyArray<number> }>
}

const row = 30
const top = 74

/** Draws it. */
export const dots = ({ axis, description, marks, rows, title }: Dots): string => {
  const left = 26 + 7.2 * Math.max(...rows.map(({ name }) => name.length))
  const right = width - 30
  const bottom = top + row * rows.length
  const all = rows.flatMap(({ values }) => values)
  const scale = logarithmic(Math.min(...all), Math.max(...all), left, right)
  const legend = marks.flatMap((
    name,
    i
  ) => [mark(left + 120 * i, 51, i), text(left + 12 + 120 * i, 55.5, name, "start", "small")])
  const grid = scale.ticks.flatMap((tick) => [
    line(scale.at(tick), top, scale.at(tick), bottom, "grid"),
    text(scale.at(tick), bottom + 18, told(tick), "middle", "quiet small")
  ])
  const drawn = rows.flatMap(({ name, values }, i) => {
    const y = top + row * (i + 0.5)
    return [
      text(left - 10, y + 4.5, name, "end"),
      line(scale.at(Math.min(...values)), y, scale.at(Math.max(...values)), y, "axis"),
      ...values.map((value, j) => mark(scale.at(value), y, j))
    ]
  })
  return picture(bottom + 56, title, description, [
    ...legend,
    ...grid,
    line(left, top, left, bottom, "axis"),
    ...drawn,
    under((left + right) / 2, bottom + 42, axis)
  ])
}

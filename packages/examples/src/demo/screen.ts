/** Shows the demo: a table that redraws itself on a terminal, plain lines elsewhere. */
import { styleText } from "node:util"

/** One endpoint on the screen. */
export interface Row {
  readonly endpoint: string
  readonly state: string
  readonly outstanding: number
  readonly calls: number
  readonly callsPerSecond: number
  /** Milliseconds; `undefined`: no reply in the period. */
  readonly p50: number | undefined
  readonly p99: number | undefined
}

/** What is shown at one moment. */
export interface Frame {
  /** Since the first call. */
  readonly seconds: number
  /** What `callsPerSecond`, `p50` and `p99` are of. */
  readonly period: string
  readonly calls: number
  readonly ok: number
  readonly failed: Readonly<Record<string, number>>
  readonly rows: ReadonlyArray<Row>
}

/** Where the demo speaks. */
export interface Screen {
  /** Something happened, so many seconds after the first call. */
  readonly event: (seconds: number, text: string) => void
  /** How things stand. */
  readonly show: (frame: Frame) => void
  /** How things stood at the end, with what is to be said of it. What is printed next goes below. */
  readonly end: (frame: Frame, summary: ReadonlyArray<string>) => void
  /** Gives the terminal back. */
  readonly close: () => void
}

const whole = (value: number): string => Math.round(value).toLocaleString("en")

const millis = (value: number | undefined): string => value === undefined ? "-" : value.toFixed(value < 100 ? 1 : 0)

const time = (seconds: number): string => `${seconds.toFixed(1).padStart(5)} s`

/** `13 failed (12 ConnectionClosed, 1 Timeout)`. */
export const failuresText = (failed: Readonly<Record<string, number>>): string => {
  const entries = Object.entries(failed)
  const sum = entries.reduce((sum, [, count]) => sum + count, 0)
  return sum === 0
    ? "0 failed"
    : `${whole(sum)} failed (${entries.map(([tag, count]) => `${whole(count)} ${tag}`).join(", ")})`
}

const counts = (frame: Frame): string =>
  `${whole(frame.calls)} calls, ${whole(frame.ok)} ok, ${failuresText(frame.failed)}`

const columns = ["", "endpoint", "state", "outstanding", "calls", "calls/s", "p50 ms", "p99 ms"]
const stateColumn = 2

const stateColour = (state: string) => state === "Open" ? "green" : state === "Closed" ? "red" : "yellow"

type Paint = (style: Parameters<typeof styleText>[0], text: string) => string

/** The table of a frame, a line each, at most `most` endpoints of it. */
const table = (frame: Frame, paint: Paint, most = Infinity): ReadonlyArray<string> => {
  const rows = frame.rows.map((row, index) => [
    String(index + 1),
    row.endpoint,
    row.state,
    whole(row.outstanding),
    whole(row.calls),
    whole(row.callsPerSecond),
    millis(row.p50),
    millis(row.p99)
  ])
  // Wide enough for what will come: columns that jump cannot be read.
  const least = [1, 8, 6, 11, 9, 8, 7, 7]
  const widths = columns.map((name, column) =>
    Math.max(name.length, least[column]!, ...rows.map((row) => row[column]!.length))
  )
  const pad = (cells: ReadonlyArray<string>) =>
    cells.map((cell, column) =>
      column === 1 || column === stateColumn ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)
    )
  const lines = rows.slice(0, most).map((row) => {
    const cells = pad(row)
    cells[stateColumn] = paint(stateColour(row[stateColumn]!), cells[stateColumn]!)
    return cells.join("  ")
  })
  const hidden = rows.length - lines.length
  return [
    paint("bold", pad(columns).join("  ")),
    ...lines,
    ...(hidden > 0 ? [`   and ${hidden} more`] : [])
  ]
}

/** Cuts a line to what fits in a row of the terminal; colours take no room. */
const clip = (line: string, width: number): string => {
  let left = width
  return line.split("\x1b[").map((part, index) => {
    // Behind the first, each part begins with the number of a colour and an m.
    const from = index === 0 ? 0 : part.indexOf("m") + 1
    const text = part.slice(from, from + left)
    left -= text.length
    return part.slice(0, from) + text
  }).join("\x1b[")
}

/** Lines that are neither endpoints nor events, and the cursor's own. */
const otherLines = 9

/** Redraws in place. */
const live = (out: NodeJS.WriteStream, title: string): Screen => {
  const paint: Paint = (style, text) => styleText(style, text, { stream: out })
  const events: Array<string> = []
  let drawn = 0
  const draw = (lines: ReadonlyArray<string>) => {
    const up = drawn > 0 ? `\x1b[${drawn}A` : ""
    const width = out.columns ?? 80
    out.write(`\x1b[?25l${up}${lines.map((line) => `\x1b[2K${clip(line, width)}\n`).join("")}\x1b[J`)
    drawn = lines.length
  }
  const lines = (frame: Frame, mostRows: number, mostEvents: number) => [
    paint("bold", title),
    "",
    ...table(frame, paint, mostRows),
    paint("dim", `   calls/s, p50 and p99 of ${frame.period}`),
    "",
    `${paint("bold", time(frame.seconds))}  ${counts(frame)}`,
    "",
    ...events.slice(-mostEvents)
  ]
  draw([paint("bold", title), "", "   starting"])
  return {
    event: (seconds, text) => void events.push(`${paint("dim", time(seconds))}  ${text}`),
    show: (frame) => {
      // Higher than the terminal it could not be drawn over.
      const room = (out.rows ?? 24) - otherLines
      const mostEvents = Math.min(events.length, Math.max(2, room - frame.rows.length))
      draw(lines(frame, Math.max(1, room - mostEvents), mostEvents))
    },
    end: (frame, summary) => {
      // The table stays as the last frame left it, with the figures of the whole run.
      draw(lines(frame, Infinity, Infinity))
      out.write(`\n${summary.join("\n")}\n`)
    },
    close: () => void out.write("\x1b[?25h")
  }
}

/** A line for each event, and one a second. */
const plain = (out: NodeJS.WritableStream, title: string): Screen => {
  const write = (lines: ReadonlyArray<string>) => void out.write(lines.map((line) => `${line}\n`).join(""))
  let last = 0
  write([title])
  return {
    event: (seconds, text) => write([`${time(seconds)}  ${text}`]),
    show: (frame) => {
      if (Math.floor(frame.seconds) > last) write([`${time(frame.seconds)}  ${counts(frame)}`])
      last = Math.floor(frame.seconds)
    },
    end: (frame, summary) => write(["", ...table(frame, (_, text) => text), "", ...summary]),
    close: () => {}
  }
}

/** The screen that fits an output. */
export const on = (out: NodeJS.WriteStream, title: string): Screen => out.isTTY ? live(out, title) : plain(out, title)

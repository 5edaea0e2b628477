/** Shows the demo: a table that redraws itself on a terminal, plain lines elsewhere. */

/** One endpoint on the screen. */
export interface Row {
  readonly endpoint: string
  readonly state: string
  readonly outstanding: number
  readonly calls: number
  readonly p50: number | undefined
  readonly p99: number | undefined
}

/** What is shown at one moment. */
export interface Frame {
  readonly seconds: number
  readonly calls: number
  readonly ok: number
  readonly failed: Readonly<Record<string, number>>
  readonly rows: ReadonlyArray<Row>
}

/** Where the demo speaks. */
export interface Screen {
  /** Something happened, once. */
  readonly event: (text: string) => void
  readonly show: (frame: Frame) => void
  /** Ends the live display; what is printed next goes below it. */
  readonly end: () => void
}

const millis = (value: number | undefined): string => value === undefined ? "-" : value.toFixed(1)

const failures = (failed: Readonly<Record<string, number>>): string => {
  const entries = Object.entries(failed)
  return entries.length === 0 ? "0" : entries.map(([tag, count]) => `${count} ${tag}`).join(", ")
}

/** The counts of a frame in one line. */
export const line = (frame: Frame): string =>
  `${frame.seconds.toFixed(0).padStart(3)} s  ${frame.calls} calls, ${frame.ok} ok, failed: ${failures(frame.failed)}`

/** The table of a frame, a line each. */
export const table = (frame: Frame): ReadonlyArray<string> => {
  const header = ["endpoint", "state", "outstanding", "calls", "p50 ms", "p99 ms"]
  const rows = frame.rows.map((row) => [
    row.endpoint,
    row.state,
    String(row.outstanding),
    String(row.calls),
    millis(row.p50),
    millis(row.p99)
  ])
  const widths = header.map((name, column) => Math.max(name.length, ...rows.map((row) => row[column]!.length)))
  const format = (cells: ReadonlyArray<string>) =>
    cells.map((cell, column) => column < 2 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)).join("  ")
  return [format(header), ...rows.map(format)]
}

/** Redraws in place. */
const live = (out: NodeJS.WriteStream): Screen => {
  const events: Array<string> = []
  let drawn = 0
  const erase = () => {
    if (drawn > 0) out.write(`\x1b[${drawn}A\x1b[J`)
    drawn = 0
  }
  return {
    event: (text) => void events.push(text),
    show: (frame) => {
      const lines = [line(frame), "", ...table(frame), "", ...events.slice(-6)]
      const width = out.columns ?? 120
      erase()
      out.write(lines.map((text) => `${text.slice(0, width - 1)}\n`).join(""))
      drawn = lines.length
    },
    end: () => {
      drawn = 0
    }
  }
}

/** A line for each event, and one a second. */
const plain = (out: NodeJS.WriteStream): Screen => {
  let lastSecond = -1
  return {
    event: (text) => void out.write(`${text}\n`),
    show: (frame) => {
      const second = Math.floor(frame.seconds)
      if (second === lastSecond) return
      lastSecond = second
      out.write(`${line(frame)}\n`)
    },
    end: () => {}
  }
}

/** The screen that fits an output. */
export const on = (out: NodeJS.WriteStream): Screen => out.isTTY ? live(out) : plain(out)

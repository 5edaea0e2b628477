/** The little SVG that the plots are made of: text, lines and marks that can be read on light and on dark pages, and no scripts. */

/** How wide every plot is. */
export const width = 760

/** A colour a series, in the order of series; each has one for light pages and one for dark. */
const colours: ReadonlyArray<readonly [light: string, dark: string]> = [
  ["#0969da", "#58a6ff"],
  ["#bc4c00", "#f0883e"],
  ["#1a7f37", "#3fb950"],
  ["#8250df", "#bc8cff"],
  ["#bf3989", "#f778ba"],
  ["#7d6400", "#d8b32f"],
  ["#0f6e84", "#4cc4dd"],
  ["#57606a", "#9aa4ae"],
  ["#a40e26", "#ff7b72"],
  ["#3b3f8f", "#a5a8ff"],
  ["#6b4f3a", "#c8a58a"]
]

const scheme = (which: 0 | 1): string => {
  const [ground, ink, quiet, grid] = which === 0
    ? ["#ffffff", "#1f2328", "#59636e", "#d1d9e0"]
    : ["#0d1117", "#e6edf3", "#9198a1", "#30363d"]
  return [
    `.ground{fill:${ground}}`,
    `text{fill:${ink}}`,
    `.quiet{fill:${quiet}}`,
    `.grid{stroke:${grid}}`,
    `.axis,.whisker{stroke:${quiet}}`,
    `.halo{stroke:${ground}}`,
    ...colours.map((colour, i) => `.f${i}{fill:${colour[which]}}.l${i}{stroke:${colour[which]}}`)
  ].join("")
}

const style = [
  "text{font:13px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif}",
  ".title{font-size:16px;font-weight:600}.small{font-size:12px}",
  ".grid,.axis,.whisker{stroke-width:1}.line{fill:none;stroke-width:2;stroke-linejoin:round}",
  ".aim{stroke-dasharray:5 4}.halo{stroke-width:1.5}",
  scheme(0),
  `@media (prefers-color-scheme: dark){${scheme(1)}}`
].join("")

/** Text as it may stand in XML. */
export const escaped = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll(`"`, "&quot;")

/** A number as SVG has it: a tenth of a pixel is as fine as anybody sees. */
const n = (value: number): string => String(Math.round(value * 10) / 10)

/** One line of text; `x` is its start, its middle or its end. */
export const text = (
  x: number,
  y: number,
  content: string,
  anchor: "start" | "middle" | "end" = "start",
  kind = ""
): string =>
  `<text x="${n(x)}" y="${n(y)}" text-anchor="${anchor}"${kind === "" ? "" : ` class="${kind}"`}>${
    escaped(content)
  }</text>`

/** What an axis shows, under its middle, or as near to that as there is room for it. */
export const under = (middle: number, y: number, content: string): string => {
  const half = content.length * 3.3
  return text(Math.max(half + 8, Math.min(width - half - 8, middle)), y, content, "middle", "quiet")
}

/** The same, upwards. */
export const upwards = (x: number, y: number, content: string): string =>
  `<text x="${n(x)}" y="${n(y)}" text-anchor="middle" class="quiet" transform="rotate(-90 ${n(x)} ${n(y)})">${
    escaped(content)
  }</text>`

/** A straight line. */
export const line = (x1: number, y1: number, x2: number, y2: number, kind: string): string =>
  `<line x1="${n(x1)}" y1="${n(y1)}" x2="${n(x2)}" y2="${n(y2)}" class="${kind}"/>`

/** A filled rectangle. */
export const rectangle = (x: number, y: number, wide: number, high: number, kind: string): string =>
  `<rect x="${n(x)}" y="${n(y)}" width="${n(wide)}" height="${n(high)}" class="${kind}"/>`

/** Lines from point to point. */
export const path = (points: ReadonlyArray<readonly [x: number, y: number]>, kind: string): string =>
  `<path d="${points.map(([x, y], i) => `${i === 0 ? "M" : "L"}${n(x)} ${n(y)}`).join("")}" class="${kind}"/>`

/** Marks that differ in shape, too: not everybody tells colours apart. */
export const mark = (x: number, y: number, series: number, shape = series): string => {
  const kind = `class="f${series} halo"`
  const corners = (...points: ReadonlyArray<readonly [number, number]>) =>
    `<polygon points="${points.map(([dx, dy]) => `${n(x + dx)},${n(y + dy)}`).join(" ")}" ${kind}/>`
  switch (shape % 4) {
    case 0:
      return `<circle cx="${n(x)}" cy="${n(y)}" r="4.5" ${kind}/>`
    case 1:
      return corners([0, -6], [6, 0], [0, 6], [-6, 0])
    case 2:
      return corners([0, -5.5], [5.5, 4.5], [-5.5, 4.5])
    default:
      return corners([-4.2, -4.2], [4.2, -4.2], [4.2, 4.2], [-4.2, 4.2])
  }
}

/** A whole picture; `description` is read to those who do not see it. */
export const picture = (height: number, title: string, description: string, parts: ReadonlyArray<string>): string =>
  [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${n(height)}" viewBox="0 0 ${width} ${
      n(height)
    }" role="img" aria-labelledby="t d">`,
    `<title id="t">${escaped(title)}</title>`,
    `<desc id="d">${escaped(description)}</desc>`,
    `<style>${style}</style>`,
    rectangle(0, 0, width, height, "ground"),
    text(16, 28, title, "start", "title"),
    ...parts,
    "</svg>",
    ""
  ].join("\n")

/** The page of `docs/performance` has the figures of the run whose results lie beside it, in its tables and in its plots; and what they are made with. */
import { assert, describe, it } from "@effect/vitest"
import { globSync, readFileSync } from "node:fs"
import { basename, dirname, join } from "node:path"
import { type CpuProfile, stagesOf } from "../src/alone/stages.ts"
import { plotsOf } from "../src/plots/all.ts"
import { bars } from "../src/plots/bars.ts"
import { lines } from "../src/plots/lines.ts"
import { linear, logarithmic, told } from "../src/plots/scale.ts"
import { pageFile, plotFile, resultsFile, withTables } from "../src/publish.ts"
import type { Results } from "../src/results.ts"
import { tables } from "../src/tables.ts"

const results = JSON.parse(readFileSync(resultsFile, "utf8")) as Results
const page = readFileSync(pageFile, "utf8")

describe("docs/performance", () => {
  it("has the figures of results.json in its tables", () => {
    assert.strictEqual(page, withTables(page, results))
  })

  it("has every table there is, once", () => {
    const marks = Array.from(page.matchAll(/<!-- table: (\w+) -->/g), ([, name]) => name!)
    assert.deepStrictEqual(marks.toSorted(), Object.keys(tables).toSorted())
    assert.strictEqual(page.split("<!-- end of table -->").length - 1, marks.length)
  })

  it("shows every plot, as results.json draws it, and no other", () => {
    const drawn = plotsOf(results)
    const files = globSync(join(dirname(pageFile), "*.svg")).map((file) => basename(file))
    assert.sameMembers(files, [...drawn.keys()])
    const shown = Array.from(page.matchAll(/!\[[^\]]+\]\(([^)]+)\)/g), ([, file]) => file!)
    assert.sameMembers(shown, files)
    for (const [name, svg] of drawn) assert.strictEqual(readFileSync(plotFile(name), "utf8"), svg, name)
  })

  it("links what is there", () => {
    const headings = Array.from(
      page.matchAll(/^#+ (.*)$/gm),
      ([, title]) => `#${title!.toLowerCase().replaceAll(" ", "-").replace(/[^\w-]/g, "")}`
    )
    for (const [, link] of page.matchAll(/\]\((#[^)]+)\)/g)) assert.include(headings, link)
  })
})

/** What is open when a text ends, and whether every end fits its beginning. */
const unclosed = (svg: string): ReadonlyArray<string> => {
  const open: Array<string> = []
  for (const [, end, name, alone] of svg.matchAll(/<(\/?)(\w+)[^>]*?(\/?)>/g)) {
    if (end === "/") assert.strictEqual(open.pop(), name)
    else if (alone !== "/") open.push(name!)
  }
  return open
}

describe("a plot", () => {
  const one = bars({
    title: "a < b & c",
    description: `"quoted"`,
    axis: "µs",
    unit: " µs",
    bars: [{ name: "x", value: 2, quartiles: [1, 3] }, { name: "<y>", value: 0, ours: true }]
  })
  const two = lines({
    title: "two",
    description: "two lines",
    xAxis: "x",
    yAxis: "y",
    x: "logarithmic",
    y: "linear",
    series: [{ name: "up", points: [[1, 1], [10, 2]] }, { name: "same", points: [[1, 1], [10, 2]] }],
    aim: { value: 4, name: "aim" }
  })

  it("is well-formed, whatever its texts are, and has no scripts", () => {
    for (const svg of [one, two, ...plotsOf(results).values()]) {
      assert.deepStrictEqual(unclosed(svg), [])
      assert.notMatch(svg, /<script|\son\w+=|href|NaN|Infinity|undefined/)
    }
    assert.include(one, "a &lt; b &amp; c")
    assert.include(one, "&lt;y&gt;")
  })

  it("has colours for light pages and for dark ones", () => {
    const [light, dark] = one.split("@media (prefers-color-scheme: dark)")
    for (const [, name] of light!.matchAll(/\.(\w+)\{(?:fill|stroke):#/g)) assert.include(dark!, `.${name}{`)
  })

  it("keeps the names of lines that end at one place apart", () => {
    const heights = ["up", "same"].map((name) => Number(new RegExp(`y="([\\d.]+)"[^>]*>${name}<`).exec(two)![1]))
    assert.isAtLeast(Math.abs(heights[0]! - heights[1]!), 15)
  })

  it("leaves room for what is aimed at", () => {
    const [, y] = /y="([\d.]+)"[^>]*>aim</.exec(two)!
    assert.isAbove(Number(y), 0)
  })
})

describe("an axis", () => {
  it("goes from 0 to a round value that is no less than the greatest", () => {
    assert.deepStrictEqual(linear(9.3, 0, 100).ticks, [0, 2, 4, 6, 8, 10])
    assert.deepStrictEqual(linear(0.42, 0, 100).ticks, [0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert.strictEqual(linear(9.3, 0, 100).at(5), 50)
  })

  it("has decades of equal length when it is logarithmic", () => {
    const { at, ticks } = logarithmic(1, 1000, 0, 100)
    assert.closeTo(at(10) - at(1), at(1000) - at(100), 1e-9)
    assert.deepStrictEqual(ticks, [1, 10, 100, 1000])
    assert.isTrue(at(1) > 0 && at(1000) < 100)
  })

  it("tells values in three digits", () => {
    assert.deepStrictEqual([0, 0.1234, 12.345, 12_345.6].map(told), ["0", "0.123", "12.3", "12,300"])
  })
})

describe("tables", () => {
  it("refuse a mark that there is no table for", () => {
    assert.throws(() => withTables("<!-- table: nothing -->\n<!-- end of table -->", results), /no table nothing/)
  })

  it("leave out what was not measured", () => {
    const { alone: _, open: __, ...less } = results
    for (const [name, table] of Object.entries(tables)) assert.notInclude(table(less), "undefined", name)
  })
})

describe("stages", () => {
  const root = new URL("../../..", import.meta.url).href
  const frame = (functionName: string, url = "") => ({ functionName, url })
  const profile: CpuProfile = {
    nodes: [
      { id: 1, callFrame: frame("(root)"), children: [2, 3, 4, 7, 8, 9, 10] },
      { id: 2, callFrame: frame("(idle)") },
      { id: 3, callFrame: frame("(garbage collector)") },
      { id: 4, callFrame: frame("encodeCall", `${root}packages/thrift/src/GeneratedService.ts`), children: [5] },
      { id: 5, callFrame: frame("set") },
      { id: 7, callFrame: frame("flush", `${root}packages/mux/src/FrameWriter.ts`), children: [6] },
      { id: 6, callFrame: frame("writeBuffer") },
      { id: 8, callFrame: frame("(program)") },
      { id: 9, callFrame: frame("runLoop", `${root}node_modules/effect/dist/internal/effect.js`) },
      { id: 10, callFrame: frame("pick", `${root}packages/core/src/internal/AperturePicker.ts`) }
    ],
    samples: [2, 3, 4, 5, 6, 7, 8, 9, 10],
    timeDeltas: [1000, 10, 20, 5, 25, 10, 10, 15, 5]
  }

  it("sums up a profile by whose code ran, a builtin for who called it, and nothing while it waits", () => {
    const shares = new Map(stagesOf(profile).map(({ percent, stage }) => [stage, Math.round(percent)]))
    assert.strictEqual(shares.get("garbage collection"), 10)
    assert.strictEqual(shares.get("codec: Thrift"), 25)
    assert.strictEqual(shares.get("writing to the socket: the system call"), 25)
    assert.strictEqual(shares.get("mux session: frames, tags, exchanges"), 10)
    assert.strictEqual(shares.get("Effect's runtime"), 15)
    assert.strictEqual(shares.get("balancer"), 5)
    assert.strictEqual([...shares.values()].reduce((sum, share) => sum + share), 100)
  })
})

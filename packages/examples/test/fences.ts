/**
 * The TypeScript that the docs show: every fence of README.md, docs and the packages' READMEs as a file of its own, on the
 * same lines as in its document, so that what a compiler says of the one holds for the other.
 */
import { existsSync, globSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { dirname, join, relative } from "node:path"
import { pathOf } from "./program.ts"

const root = pathOf("../..")
/** Ignored by git. */
const folder = pathOf(".fences")

/** Every page, from the top of the repository. */
export const documents: ReadonlyArray<string> = globSync(["README.md", "docs/**/*.md", "packages/*/README.md"], {
  cwd: root
}).toSorted()

/** A file, from the top of the repository. */
export const textOf = (document: string): string => readFileSync(join(root, document), "utf8")

/** The links of a page that lead nowhere: to no file, or to no heading of it. */
export const brokenLinks = (document: string): ReadonlyArray<string> =>
  Array.from(textOf(document).matchAll(/\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)/g))
    .filter(([, path = "", anchor]) => {
      const target = path === "" ? document : join(dirname(document), path)
      if (!existsSync(join(root, target))) return true
      return anchor !== undefined &&
        !Array.from(
          textOf(target).matchAll(/^#+ (.*)$/gm),
          ([, heading]) => heading!.toLowerCase().replace(/[^\w\- ]/g, "").replaceAll(" ", "-")
        ).includes(anchor)
    })
    .map(([link]) => `${document}: ${link.slice(1)}`)

/** One fence. */
export interface Fence {
  /** From the top of the repository. */
  readonly document: string
  /** Of its first line of code, from 1. */
  readonly line: number
  readonly code: string
  /** Where it was written. */
  readonly path: string
}

/** Reads the fences of a document. One that begins with `// name.ts` is that file, for those below it to import. */
const read = (document: string): ReadonlyArray<Fence> => {
  const fences: Array<Fence> = []
  const lines = textOf(document).split("\n")
  for (let at = 0; at < lines.length; at++) {
    if (!/^```ts\b/.test(lines[at]!)) continue
    const end = lines.indexOf("```", at)
    if (end < 0) throw new Error(`${document}:${at + 1}: the fence is not closed`)
    const code = lines.slice(at + 1, end).join("\n")
    const name = /^\/\/ (\S+\.ts)$/.exec(lines[at + 1]!)?.[1] ?? `line-${at + 2}.ts`
    const path = join(folder, document, name)
    if (fences.some((other) => other.path === path)) throw new Error(`${document}:${at + 2}: a second ${name}`)
    fences.push({ document, line: at + 2, code, path })
    at = end
  }
  return fences
}

/** Whether a fence does something when it is loaded: it waits at its top level. */
export const isProgram = ({ code }: Fence): boolean => /^(console\.log\()?await /m.test(code)

/** Whether a fence is a vitest test. */
export const isTest = ({ code }: Fence): boolean => code.includes(`from "@effect/vitest"`)

/** Writes code where a fence is, on its own lines, beside the generated code that `./gen` names. */
export const write = (fence: Fence, path: string, code: string): void => {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, "\n".repeat(fence.line - 1) + code + "\n")
}

/** Writes all fences anew. */
export const extract = (): ReadonlyArray<Fence> => {
  rmSync(folder, { recursive: true, force: true })
  const fences = documents.flatMap(read)
  for (const fence of fences) write(fence, fence.path, fence.code)
  for (const place of new Set(fences.map(({ path }) => dirname(path)))) symlinkSync(pathOf("gen"), join(place, "gen"))
  writeFileSync(
    join(folder, "tsconfig.json"),
    JSON.stringify({
      extends: relative(folder, join(root, "tsconfig.json")),
      include: ["**/*.ts"],
      exclude: ["**/gen"]
    })
  )
  return fences
}

/** Writes a program that loads fences, and gives its path. */
export const writeLoader = (fences: ReadonlyArray<Fence>): string => {
  const path = join(folder, "load.ts")
  writeFileSync(path, fences.map((fence) => `await import(${JSON.stringify(fence.path)})\n`).join(""))
  return path
}

/** The compiler's arguments: all fences in one go. */
export const tsc: ReadonlyArray<string> = [
  join(root, "node_modules/typescript/bin/tsc"),
  "--pretty",
  "false",
  "-p",
  join(folder, "tsconfig.json")
]

/** What the compiler said, by document and line. */
export const inDocuments = (output: string, fences: ReadonlyArray<Fence>): string =>
  fences.reduce(
    (text, { document, path }) => text.replaceAll(relative(process.cwd(), path), document),
    output
  ).replace(/\((\d+),(\d+)\): /g, ":$1:$2: ")

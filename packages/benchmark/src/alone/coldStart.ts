/**
 * What it costs to have the client at all: how long a process takes that does nothing but import it, beyond what Node itself takes, and what its
 * package and all that it depends on take on the disk, beside those of the peers. Ours as it is published: built, and without its sources' condition.
 */
import { execFile } from "node:child_process"
import { globSync, readFileSync, statSync } from "node:fs"
import { createRequire } from "node:module"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { summarize, type Summary } from "../statistics.ts"
import type { Extent } from "./isolated.ts"

/** What is imported, and with what its users install it. */
const modules = {
  "@scales-rpc/thriftmux": ["@scales-rpc/thriftmux", "effect", "thrift"],
  "effect alone": ["effect"],
  thrift: ["thrift"],
  "@grpc/grpc-js": ["@grpc/grpc-js"],
  undici: ["undici"]
} as const

/** Whom a program imports. */
export type ModuleName = keyof typeof modules

/** What each program imports of it: of `effect` what every client made with it needs. */
const importsOf = (name: ModuleName): string => name === "effect alone" ? "effect/Effect" : name

/** One of them. */
export interface StartCost {
  readonly name: ModuleName
  /** Milliseconds from start to end of the process, less those of one that imports nothing, of the same round. */
  readonly importMillis: Summary
  /** Of the package and of all that it depends on, as installed. */
  readonly installedBytes: number
  readonly packages: number
}

/** All of them, and Node by itself. */
export interface ColdStartReport {
  readonly nodeMillis: Summary
  readonly modules: ReadonlyArray<StartCost>
}

const root = fileURLToPath(new URL("../../../..", import.meta.url))
const run = promisify(execFile)

/** As a user's shell starts it: without the conditions of this process. */
const env = { ...process.env, NODE_OPTIONS: "", NODE_COMPILE_CACHE: undefined }

interface Manifest {
  readonly name: string
  readonly private?: boolean
  readonly files?: ReadonlyArray<string>
  readonly dependencies?: Readonly<Record<string, string>>
}

const manifestOf = (folder: string): Manifest =>
  JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as Manifest

/** Where the package `name` is installed for one that is in `folder`. */
const folderOf = (name: string, folder: string): string => {
  const paths = createRequire(join(folder, "package.json")).resolve.paths(name) ?? []
  for (const path of paths) {
    const manifest = join(path, name, "package.json")
    if (statSync(manifest, { throwIfNoEntry: false }) !== undefined) return join(path, name)
  }
  throw new Error(`${name} is not installed for ${folder}`)
}

/** Of one package, without those that it depends on. Of ours what would be packed. */
const bytesOf = (folder: string): number => {
  const ours = manifestOf(folder).name.startsWith("@scales-rpc/")
  const kept = ours ? ["package.json", "README.md", "LICENSE", "dist/**", "src/**"] : ["**"]
  let bytes = 0
  for (const path of globSync(kept, { cwd: folder, exclude: (name) => name === "node_modules" })) {
    if (ours && path.endsWith(".tsbuildinfo")) continue
    const stat = statSync(join(folder, path))
    if (stat.isFile()) bytes += stat.size
  }
  return bytes
}

/** Every package that one needs, with itself: folders. */
const closureOf = (names: ReadonlyArray<string>, folder: string, found: Set<string>): Set<string> => {
  for (const name of names) {
    const own = folderOf(name, folder)
    if (found.has(own)) continue
    found.add(own)
    closureOf(Object.keys(manifestOf(own).dependencies ?? {}), own, found)
  }
  return found
}

const startMillis = async (specifier: string | undefined): Promise<number> => {
  const program = specifier === undefined ? "" : `import ${JSON.stringify(specifier)}`
  const started = performance.now()
  await run(process.execPath, ["--input-type=module", "--eval", program], {
    cwd: join(root, "packages/benchmark"),
    env
  })
  return performance.now() - started
}

/** Builds ours, and measures; `quick` measures nothing. */
export const measureColdStart = async (
  extent: Extent,
  progress: (line: string) => void
): Promise<ColdStartReport | undefined> => {
  if (extent === "quick") return undefined
  progress("cold start: building")
  const tsc = join(root, "node_modules/.bin/tsc")
  await run(tsc, ["-b", join(root, "packages/thriftmux")], { cwd: root, maxBuffer: 2 ** 26 })
  const names = Object.keys(modules) as ReadonlyArray<ModuleName>
  const node: Array<number> = []
  const extra = new Map(names.map((name): [ModuleName, Array<number>] => [name, []]))
  const rounds = extent === "full" ? 25 : 9
  for (let round = -1; round < rounds; round++) {
    if (round >= 0) progress(`cold start: round ${round + 1} of ${rounds}`)
    const alone = await startMillis(undefined)
    if (round >= 0) node.push(alone)
    for (const name of names) {
      const millis = await startMillis(importsOf(name))
      // The first round fills the caches of the disk.
      if (round >= 0) extra.get(name)!.push(millis - alone)
    }
  }
  return {
    nodeMillis: summarize(node),
    modules: names.map((name) => {
      const folders = closureOf(modules[name], join(root, "packages/benchmark"), new Set())
      return {
        name,
        importMillis: summarize(extra.get(name)!),
        installedBytes: [...folders].reduce((sum, folder) => sum + bytesOf(folder), 0),
        packages: folders.size
      }
    })
  }
}

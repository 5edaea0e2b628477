/** Brings what the Java peers need: finds Java and Maven, and builds the projects whose sources have changed. */
import * as Effect from "effect/Effect"
import { createHash } from "node:crypto"
import { existsSync, globSync, readFileSync, writeFileSync } from "node:fs"
import { basename, dirname, join } from "node:path"
import type { Program } from "./Peer.ts"
import { BuildFailed, execute, Missing } from "./Toolchain.ts"

/** The oldest Java that the peers compile for. */
const javaVersion = 17

const missing = (what: string) =>
  Effect.fail(new Missing({ what: `${what}; on Debian: apt-get install openjdk-${javaVersion}-jdk-headless maven` }))

/** A hash of all that a project is built from: times say nothing in a fresh clone or a restored cache. */
const fingerprint = (folder: string): string => {
  const hash = createHash("sha256")
  const roots = ["pom.xml", "src/**/*.java", "gen/**/*.java", "../shared/*.java"]
  for (const file of globSync(roots, { cwd: folder }).toSorted()) {
    hash.update(file).update("\0").update(readFileSync(join(folder, file)))
  }
  return hash.digest("hex")
}

const build = (folder: string) =>
  Effect.gen(function*() {
    const target = join(folder, "target")
    const stamp = join(target, "built-from")
    const current = fingerprint(folder)
    const project = `${basename(dirname(folder))}/${basename(folder)}`
    if (
      existsSync(join(target, "classes")) && existsSync(join(target, "lib")) && existsSync(stamp) &&
      readFileSync(stamp, "utf8") === current
    ) return
    console.error(`building ${project} with Maven (once; a first time downloads what it needs)`)
    const { code, output } = yield* execute("mvn", ["-q", "-B", "-ntp", "package"], folder)
    if (code === undefined) return yield* missing("no Maven (`mvn`) here")
    if (code !== 0) return yield* new BuildFailed({ what: `mvn package in ${project}`, output: output.slice(-3000) })
    writeFileSync(stamp, current)
  })

/** Makes sure that the programs of these projects can be started. One after the other: Maven shares its repository badly. */
export const prepare = (folders: ReadonlyArray<string>): Effect.Effect<void, Missing | BuildFailed> =>
  Effect.gen(function*() {
    const { code, output } = yield* execute("java", ["-version"])
    if (code === undefined) return yield* missing("no Java (`java`) here")
    const version = Number(/version "(?:1\.)?(\d+)/.exec(output)?.[1])
    if (!(version >= javaVersion)) return yield* missing(`Java ${javaVersion} or newer is needed, this is ${version}`)
    for (const folder of folders) yield* build(folder)
  })

/** The `Main` of a project that is prepared. */
export const program = (name: string, folder: string, args: ReadonlyArray<string>): Program => {
  // The heap is for some messages of 16 MiB at a time. With C1 alone a server listens after 1.4 s, with both compilers 2.6 (measured).
  const jvm = ["-Xmx512m", "-XX:TieredStopAtLevel=1", "-cp", "target/classes:target/lib/*", "Main"]
  return { name, command: "java", args: [...jvm, ...args], cwd: folder }
}

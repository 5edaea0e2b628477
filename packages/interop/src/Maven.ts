/** Brings what the Java peers need: finds Java and Maven, and builds the projects whose sources have changed. */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import { createHash } from "node:crypto"
import { existsSync, globSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { folder, type Library } from "./Finagle.ts"

/** The oldest Java that the peers compile for. */
const javaVersion = 17

/** Something of the machine's is missing: `what` says what, and how to get it. */
export class Missing extends Data.TaggedError("Missing")<{ readonly what: string }> {}

/** The sources do not compile, or Maven could not fetch what they need. */
export class BuildFailed
  extends Data.TaggedError("BuildFailed")<{ readonly library: Library; readonly output: string }>
{
  override get message(): string {
    return `mvn package failed in finagle/${this.library}:\n${this.output}`
  }
}

/** Runs a program to its end; `code` is undefined when there is no such program. Interruption ends the program. */
const execute = (command: string, args: ReadonlyArray<string>, cwd?: string) =>
  Effect.callback<{ readonly code: number | null | undefined; readonly output: string }>((resume) => {
    const process = spawn(command, args, { cwd, stdio: ["ignore", "pipe", "pipe"] })
    let output = ""
    for (const stream of [process.stdout, process.stderr]) stream.on("data", (chunk: Buffer) => (output += chunk))
    process.on("error", () => resume(Effect.succeed({ code: undefined, output })))
    process.on("close", (code) => resume(Effect.succeed({ code, output })))
    return Effect.callback<void>((stopped) => {
      process.once("close", () => stopped(Effect.void))
      process.kill()
    })
  })

const missing = (what: string) =>
  Effect.fail(new Missing({ what: `${what}; on Debian: apt-get install openjdk-${javaVersion}-jdk-headless maven` }))

/** A hash of all that a project is built from: times say nothing in a fresh clone or a restored cache. */
const fingerprint = (library: Library): string => {
  const hash = createHash("sha256")
  const roots = ["pom.xml", "src/**/*.java", "../shared/*.java"]
  for (const file of globSync(roots, { cwd: folder(library) }).toSorted()) {
    hash.update(file).update("\0").update(readFileSync(join(folder(library), file)))
  }
  return hash.digest("hex")
}

const build = (library: Library) =>
  Effect.gen(function*() {
    const target = join(folder(library), "target")
    const stamp = join(target, "built-from")
    const current = fingerprint(library)
    if (
      existsSync(join(target, "classes")) && existsSync(join(target, "lib")) && existsSync(stamp) &&
      readFileSync(stamp, "utf8") === current
    ) return
    console.error(`building finagle/${library} with Maven (once; a first time downloads Finagle)`)
    const { code, output } = yield* execute("mvn", ["-q", "-B", "-ntp", "package"], folder(library))
    if (code === undefined) return yield* missing("no Maven (`mvn`) here")
    if (code !== 0) return yield* new BuildFailed({ library, output: output.slice(-3000) })
    writeFileSync(stamp, current)
  })

/** Makes sure that the peers of these libraries can be started. One after the other: Maven shares its repository badly. */
export const prepare = (libraries: ReadonlyArray<Library>): Effect.Effect<void, Missing | BuildFailed> =>
  Effect.gen(function*() {
    const { code, output } = yield* execute("java", ["-version"])
    if (code === undefined) return yield* missing("no Java (`java`) here")
    const version = Number(/version "(?:1\.)?(\d+)/.exec(output)?.[1])
    if (!(version >= javaVersion)) return yield* missing(`Java ${javaVersion} or newer is needed, this is ${version}`)
    for (const library of libraries) yield* build(library)
  })

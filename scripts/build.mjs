// Builds the published packages from nothing, packs each as a registry would get it, has the tarballs checked, and prints what
// each weighs and what importing it costs, so that growth is seen. `--out FOLDER` keeps the tarballs.
import { execFile } from "node:child_process"
import { globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs"
import { tmpdir } from "node:os"
import { delimiter, dirname, join, resolve } from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"

const { values } = parseArgs({ options: { out: { type: "string" } } })
const root = dirname(dirname(fileURLToPath(import.meta.url)))
const out = values.out === undefined ? mkdtempSync(join(tmpdir(), "scales-rpc-build-")) : resolve(values.out)
process.on("exit", () => values.out === undefined && rmSync(out, { recursive: true, force: true }))

/** As a shell starts it, with the tools of this repository: none of what the caller told its own Node. */
const env = {
  ...process.env,
  PATH: join(root, "node_modules", ".bin") + delimiter + process.env.PATH,
  NODE_OPTIONS: undefined,
  NODE_COMPILE_CACHE: undefined,
  NODE_V8_COVERAGE: undefined
}

/** Runs a command and gives what it wrote; ends the build, with what it wrote, when it fails. */
const run = (command, ...args) =>
  new Promise((resolve) =>
    execFile(command, args, { cwd: root, env, maxBuffer: 2 ** 26 }, (error, stdout, stderr) => {
      if (error === null) return resolve(stdout)
      console.error(`FAILED: ${command} ${args.join(" ")}\n${stdout}${stderr}`)
      process.exit(1)
    })
  )

const folders = globSync(join(root, "packages/*/package.json"))
  .filter((path) => JSON.parse(readFileSync(path, "utf8")).private !== true)
  .map(dirname)
  .toSorted()

for (const folder of folders) rmSync(join(folder, "dist"), { recursive: true, force: true })
await run("tsc", "-b", ...folders)

mkdirSync(out, { recursive: true })
const workspaces = folders.flatMap((folder) => ["--workspace", folder])
const packed = JSON.parse(await run("npm", "pack", "--json", "--pack-destination", out, ...workspaces))
await Promise.all(packed.flatMap(({ filename }) => [
  run("publint", join(out, filename), "--strict"),
  run("attw", join(out, filename), "--profile", "esm-only", "--format", "ascii", "--no-color")
]))

// Milliseconds from start to end of a process that imports a module, or none: the least of some runs, which the load of the
// machine moves least.
const starts = new Map(["", "effect/Effect", ...packed.map(({ name }) => name)].map((name) => [name, Infinity]))
for (let round = 0; round < 7; round++) {
  for (const [name, least] of starts) {
    const started = performance.now()
    await run(process.execPath, "--input-type=module", "--eval", name === "" ? "" : `import "${name}"`)
    starts.set(name, Math.min(least, performance.now() - started))
  }
}

const start = (name) => Math.round(starts.get(name))
const sizes = packed.map(({ filename, name, unpackedSize }) => ({
  name,
  packed: statSync(join(out, filename)).size,
  unpacked: unpackedSize,
  startMillis: start(name)
}))
const row = (name, packed, unpacked, start) =>
  console.log(`${name.padEnd(24)}${packed.padStart(10)}${unpacked.padStart(12)}${start.padStart(12)}`)
const kilobytes = (bytes) => `${(bytes / 1000).toFixed(1)} kB`
row("package", "packed", "unpacked", "cold start")
for (const { name, packed, startMillis, unpacked } of sizes) {
  row(name, kilobytes(packed), kilobytes(unpacked), `${startMillis} ms`)
}
row("effect alone", "", "", `${start("effect/Effect")} ms`)
row("Node alone", "", "", `${start("")} ms`)
console.log(JSON.stringify({ packages: sizes, effectStartMillis: start("effect/Effect"), nodeStartMillis: start("") }))

/**
 * The packages as their users get them: built, packed, installed from the tarballs outside of the workspace; on the Node of the
 * tests and on the oldest that `engines` names. Needs the registry, as `npm install` does.
 */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { execFile, spawn } from "node:child_process"
import { once } from "node:events"
import { cpSync, existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"

const root = fileURLToPath(new URL("../../..", import.meta.url))
const folder = mkdtempSync(join(tmpdir(), "scales-rpc-packed-"))
const tarballs = join(folder, "tarballs")
const app = join(folder, "app")

interface Manifest {
  readonly name: string
  readonly version: string
  readonly engines: { readonly node: string }
  readonly exports: Readonly<Record<string, unknown>>
  readonly dependencies?: Readonly<Record<string, string>>
}
const json = <A>(...path: ReadonlyArray<string>) => JSON.parse(readFileSync(join(...path), "utf8")) as A

/** As a user's shell starts it, not as vitest does. */
const env = { ...process.env, NODE_OPTIONS: "", FORCE_COLOR: undefined, NO_COLOR: undefined }

/** Runs a command to its end; rejects with what it wrote when it fails. */
const run = async (cwd: string, command: string, ...args: ReadonlyArray<string>) => {
  const { stderr, stdout } = await promisify(execFile)(command, args, { cwd, env, maxBuffer: 2 ** 26 }).catch(
    (error: { readonly stdout: string; readonly stderr: string }) => {
      throw new Error(`${command} ${args.join(" ")}\n${error.stdout}${error.stderr}`)
    }
  )
  return { stdout, stderr }
}

/** Installs into a folder of its own. Peers and engines that do not fit are errors. */
const install = async (into: string, specifiers: ReadonlyArray<string>) => {
  mkdirSync(into, { recursive: true })
  writeFileSync(join(into, "package.json"), JSON.stringify({ private: true, type: "module" }))
  const options = ["--strict-peer-deps", "--engine-strict", "--ignore-scripts", "--prefer-offline", "--loglevel=error"]
  await run(into, "npm", "install", ...options, ...specifiers)
}

/** The packages that were installed, once they are. */
let packages: ReadonlyArray<Manifest & { readonly folder: string }> = []
/** The Nodes that the programs run on. */
const nodes = { pinned: process.execPath, oldest: join(folder, "oldest/node_modules/.bin/node") }

const compareVersions = (left: string, right: string) => left.localeCompare(right, "en", { numeric: true })

/** The oldest Node that `engines` names: the major and the minor version. */
const least = () => /^>=(\d+\.\d+)$/.exec(packages[0]!.engines.node)![1]!

/** Installs the oldest Node that `engines` names, or the next that there is for this machine. */
const installOldest = async () => {
  const name = `node-${process.platform}-${process.arch}`
  const { stdout } = await run(folder, "npm", "view", name, "versions", "--json", "--loglevel=error")
  const fitting = (JSON.parse(stdout) as ReadonlyArray<string>).filter((version) =>
    compareVersions(version, least()) >= 0
  )
  await install(join(folder, "oldest"), [`${name}@${fitting.toSorted(compareVersions)[0]}`])
}

/** The first program of README.md, calling a server of ours. */
const readmeProgram = (uri: string) => {
  const [, program] = /^```ts\n(.*?)^```$/ms.exec(readFileSync(join(root, "README.md"), "utf8"))!
  const calling = program!.replace("tcp://localhost:8080,localhost:8081", uri)
  assert.notStrictEqual(calling, program)
  return calling
}

beforeAll(async () => {
  await run(root, process.execPath, "scripts/build.mjs", "--out", tarballs)

  // What the README of thriftmux says to install; what is not ours in the versions that the repository has.
  const [, names] = /^ {4}npm install (.*)$/m.exec(readFileSync(join(root, "packages/thriftmux/README.md"), "utf8"))!
  const others = [...names!.split(" ").filter((name) => !name.startsWith("@scales-rpc/")), "typescript"]
  await install(app, [
    ...globSync(join(tarballs, "*.tgz")),
    ...others.map((name) => `${name}@${json<Manifest>(root, "node_modules", name, "package.json").version}`)
  ])
  packages = globSync(join(app, "node_modules/@scales-rpc/*")).map((folder) => ({
    ...json<Manifest>(folder, "package.json"),
    folder
  }))
  await installOldest()

  cpSync(join(root, "packages/examples/gen"), join(app, "gen"), { recursive: true })
  for (const file of ["client.ts", "echo.ts", "server.ts"]) {
    cpSync(join(root, "packages/examples/src", file), join(app, "src", file))
  }
  cpSync(join(root, "packages/proof/test/packed/imports.mjs"), join(app, "imports.mjs"))
}, 240_000)
afterAll(() => rmSync(folder, { recursive: true, force: true }))

it("every published package was packed, with its licence, its README, and the sources that its maps point into", () => {
  const published = globSync(join(root, "packages/*/package.json"))
    .map((path) => json<Manifest & { readonly private?: boolean }>(path))
    .filter((manifest) => manifest.private !== true)
  assert.sameMembers(packages.map(({ name }) => name), published.map(({ name }) => name))
  for (const { dependencies, engines, folder, name } of packages) {
    const maps = globSync(join(folder, "dist/**/*.map"))
    assert.isNotEmpty(maps)
    const sources = maps.flatMap((map) =>
      json<{ readonly sources: ReadonlyArray<string> }>(map).sources.map((source) => join(dirname(map), source))
    )
    const files = ["LICENSE", "README.md"].map((file) => join(folder, file))
    assert.deepStrictEqual([...files, ...sources].filter((path) => !existsSync(path)), [], name)
    assert.strictEqual(readFileSync(join(folder, "LICENSE"), "utf8"), readFileSync(join(root, "LICENSE"), "utf8"))
    assert.isEmpty(globSync(join(folder, "**/.tsbuildinfo")), name)
    assert.deepStrictEqual(engines, packages[0]!.engines, name)
    for (const sibling of packages) {
      assert.include([undefined, sibling.version], dependencies?.[sibling.name], `${name} on ${sibling.name}`)
    }
  }
})

it("the README's program and the examples type-check, and every declaration that they reach", async () => {
  writeFileSync(join(app, "readme.ts"), readmeProgram("tcp://localhost:1"))
  writeFileSync(
    join(app, "tsconfig.json"),
    JSON.stringify({
      compilerOptions: {
        module: "nodenext",
        strict: true,
        // The guide says true, for what others declare. Not here: an error in a declaration of ours would be an `any` in a program.
        skipLibCheck: false,
        rewriteRelativeImportExtensions: true,
        types: ["node"],
        noEmit: true
      },
      include: ["readme.ts", "src"]
    })
  )
  await run(app, process.execPath, "node_modules/typescript/bin/tsc", "--pretty", "false", "-p", ".")
}, 60_000)

describe.each(["pinned", "oldest"] as const)("on the %s Node", (which) => {
  const node = nodes[which]
  // The oldest Node says of each program with types that running it is an experiment.
  const quiet = "--disable-warning=ExperimentalWarning"

  it("importing a package does nothing but define", async () => {
    for (const { exports, name } of packages) {
      for (const entry of Object.keys(exports)) {
        const written = await run(app, node, "imports.mjs", join(name, entry))
        assert.deepStrictEqual(written, { stdout: "", stderr: "" }, join(name, entry))
      }
    }
  }, 60_000)

  it("the README's program calls a server, which drains when it is told to stop", async () => {
    const server = spawn(node, [quiet, "src/server.ts", "0"], { cwd: app, env, stdio: ["ignore", "pipe", "inherit"] })
    try {
      const ended = once(server, "close")
      // Its log is there too.
      const listening = new Promise<string>((resolve) =>
        createInterface(server.stdout).on("line", (line) => {
          const [, port] = /^listening on tcp:\/\/.*:(\d+)$/.exec(line) ?? []
          if (port !== undefined) resolve(port)
        })
      )
      const port = await Promise.race([
        listening,
        ended.then((end) => Promise.reject(new Error(`ended: ${end.join()}`)))
      ])
      writeFileSync(join(app, "readme.ts"), readmeProgram(`tcp://127.0.0.1:${port}`))
      const { stderr, stdout } = await run(app, node, quiet, "readme.ts")
      assert.strictEqual(stderr, "")
      assert.match(stdout, /text: 'hi!'/)
      server.kill("SIGTERM")
      assert.deepStrictEqual(await ended, [0, null])
    } finally {
      server.kill("SIGKILL")
    }
  }, 60_000)
})

it("the oldest Node is as old as engines lets it be, and older than the pinned one", async () => {
  const { stdout } = await run(app, nodes.oldest, "--version")
  assert.isAtLeast(compareVersions(stdout.trim(), `v${least()}`), 0)
  assert.isBelow(compareVersions(stdout.trim(), process.version), 0)
})

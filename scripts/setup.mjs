// Brings what the other commands need: the dependencies of the lock file, the pinned Node among them. Runs under any Node from
// 20 on, before every npm script; costs some milliseconds when all is there.
import { spawnSync } from "node:child_process"
import { createHash } from "node:crypto"
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { delimiter, dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const lock = createHash("sha256").update(readFileSync(join(root, "package-lock.json"))).digest("hex")
const stamp = join(root, "node_modules", ".setup")
const node = join(root, "node_modules", ".bin", "node")

const [major = 0, minor = 0] = process.versions.node.split(".").map(Number)
const thisNodeWillDo = major > 22 || (major === 22 && minor >= 19)

if (!(existsSync(stamp) && readFileSync(stamp, "utf8") === lock && (existsSync(node) || thisNodeWillDo))) {
  console.error("setting up: installing dependencies and the pinned Node (once)")
  // No install scripts: nothing here needs one, and one that is not run can do no harm. `--no-save` keeps to the lock file and does
  // not write it.
  const { status } = spawnSync("npm", [
    "install",
    "--no-save",
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--loglevel=error"
  ], {
    cwd: root,
    stdio: ["ignore", "inherit", "inherit"]
  })
  if (status !== 0) {
    console.error("setting up failed: `npm install` did not succeed; its message is above")
    process.exit(status ?? 1)
  }
  if (!existsSync(node) && !thisNodeWillDo) {
    console.error(
      `setting up failed: no pinned Node for ${process.platform}-${process.arch}; ` +
        "Linux on x64 and arm64 brings its own, elsewhere run the scripts with Node 24"
    )
    process.exit(1)
  }
  writeFileSync(stamp, lock)
}

// The addon of the package `zookeeper`, which compiles it where it is installed: for the pinned Node, whichever runs this.
const addonStamp = join(root, "node_modules", ".setup-zookeeper")
const pinned = join(root, "node_modules", `node-${process.platform}-${process.arch}`)
const runner = existsSync(node) ? node : process.execPath
const built = `${lock} ${existsSync(node) ? "pinned" : process.version} ${process.platform}-${process.arch}`

const known = existsSync(addonStamp) ? readFileSync(addonStamp, "utf8") : ""
if (known !== built) {
  // What failed is not tried before every script, but in CI, or when its stamp is deleted.
  const again = known === `failed ${built}` && !process.env.CI
  const missing = again ? "its build failed before (node_modules/.setup-zookeeper says so)" : buildAddon()
  if (missing === undefined) writeFileSync(addonStamp, built)
  else {
    console.error(`setting up: no addon of the package zookeeper, and what needs it is skipped: ${missing}`)
    if (process.env.CI) process.exit(1)
  }
}

/** Builds the addon unless it loads; what is missing, in a few words, if it could not be built. */
function buildAddon() {
  const loads = () => spawnSync(runner, ["--eval", `require("zookeeper")`], { cwd: root, stdio: "ignore" }).status === 0
  if (loads()) return undefined
  const onPath = (tool) => process.env.PATH.split(delimiter).some((folder) => existsSync(join(folder, tool)))
  const tools = [["python3"], ["make"], ["c++", "g++", "clang++"]].filter((names) => !names.some(onPath))
  if (tools.length > 0) return `building it needs ${tools.map(([name]) => name).join(", ")}`
  console.error("setting up: building the addon of the package zookeeper (once, less than a minute)")
  const { status, stdout, stderr } = spawnSync("npm", ["rebuild", "zookeeper", "--no-audit", "--no-fund"], {
    cwd: root,
    encoding: "utf8",
    env: {
      ...process.env,
      PATH: join(root, "node_modules", ".bin") + delimiter + process.env.PATH,
      ...(existsSync(join(pinned, "include")) ? { npm_config_nodedir: pinned } : {})
    }
  })
  if (status === 0 && loads()) return undefined
  writeFileSync(addonStamp, `failed ${built}`)
  return `npm rebuild zookeeper failed:\n${`${stdout}${stderr}`.trim().split("\n").slice(-15).join("\n")}`
}

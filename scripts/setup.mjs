// Brings what the other commands need: the dependencies of the lock file, the pinned Node among them. Runs under any Node from
// 20 on, before every npm script; costs some milliseconds when all is there.
import { spawnSync } from "node:child_process"
import { createHash } from "node:crypto"
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
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

/** Every name that a published package exports has a doc comment, and every option says what it is. */
import { assert, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"

it("every exported name has a doc comment", async () => {
  const build = fileURLToPath(new URL("../build.mjs", import.meta.url))
  const env = { ...process.env, NODE_OPTIONS: "" }
  const { stderr, stdout } = await promisify(execFile)(process.execPath, [build, "--check"], { env })
  assert.strictEqual(stderr, "")
  assert.match(stdout, /^\d{3,} exported names, all documented\n$/)
})

/** The API reference is built, which it is only when every exported name has a doc comment. */
import { assert, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { existsSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"

const pathOf = (path: string) => fileURLToPath(new URL(`../${path}`, import.meta.url))

// 4 s of CPU, and more by the clock where cores are shared.
it("every exported name has a doc comment, and is in the reference", async () => {
  const env = { ...process.env, NODE_OPTIONS: "" }
  const { stderr, stdout } = await promisify(execFile)(process.execPath, [pathOf("build.mjs")], { env })
  assert.strictEqual(stderr, "")
  assert.match(stdout, /^\d{3,} exported names in /m)
  for (
    const page of [
      "core/classes/Timeout.md",
      "core/namespaces/Rpc/functions/deadline.md",
      "core/testing/namespaces/Mock/functions/layer.md",
      "mux/namespaces/MuxTransport/functions/layer.md",
      "thrift/variables/ThriftService.md",
      "thriftmux/namespaces/ThriftMux/functions/layer.md"
    ]
  ) {
    assert.isTrue(existsSync(pathOf(`api/@scales-rpc/${page}`)), page)
  }
}, 60_000)

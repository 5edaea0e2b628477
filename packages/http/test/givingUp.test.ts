// Requests with bodies that are given up over HTTP/2: in undici 8.12 with Node 24 that can block the process for ever, so that it is
// tried in one of its own.
import { assert, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { once } from "node:events"
import { createServer } from "node:http2"
import type { AddressInfo } from "node:net"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"

const program = fileURLToPath(new URL("givingUpPeer.ts", import.meta.url))

describe("a request with a body that is given up over HTTP/2", () => {
  it.each([10, 16_000, 1_000_000])("does not block the process, with %i bytes", async (bytes) => {
    let posts = 0
    const server = createServer((request, response) => {
      // Every other body is never read.
      if (request.method === "GET") response.end("well")
      else if (posts++ % 2 === 0) request.resume()
    })
    server.listen(0, "127.0.0.1")
    await once(server, "listening")
    try {
      const { port } = server.address() as AddressInfo
      const args = ["--conditions=@scales-rpc/source", program, String(port), String(bytes)]
      const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 15_000, killSignal: "SIGKILL" })
      assert.strictEqual(stdout.trim(), "answered 200")
    } finally {
      server.close()
    }
  })
})

/** Python's own servers: HTTP/1.0, whose connections end with each response, and HTTP/1.1. */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import { type Case, holds, theme } from "../Suite.ts"
import { connect } from "./client.ts"
import { type Peers, shared } from "./peers.ts"

const toPython = (which: "files" | "paths") =>
  Effect.flatMap(shared("python"), (server) => connect(`tcp://${server[which]}`))

const script = readFileSync(new URL("../../http/python/server.py", import.meta.url), "utf8")

/** The cases of Python's servers. */
export const python: ReadonlyArray<Case<Peers>> = theme<Peers>("Python's server", [
  holds(
    "HTTP/1.0: a file, its head, a directory, none, and not again when it has not changed",
    Effect.gen(function*() {
      const { send } = yield* toPython("files")
      const file = yield* send("/server.py")
      assert.equal(file.text, script)
      const head = yield* send("/server.py", { method: "HEAD" })
      assert.deepEqual([head.status, head.text, head.header("content-length")], [200, "", String(script.length)])
      const since = [["if-modified-since", file.header("last-modified")!]] as const
      const same = yield* send("/server.py", { headers: since })
      assert.deepEqual([same.status, same.text], [304, ""])
      assert.match((yield* send("/")).text, /server\.py/)
      const none = yield* send("/nonesuch")
      assert.deepEqual([none.status, none.reason], [404, "File not found"])
      assert.equal((yield* send("/server.py", { method: "DELETE" })).status, 501)
    })
  ),
  holds(
    "HTTP/1.0: many calls, of which each has a connection of its own",
    Effect.gen(function*() {
      const { send } = yield* toPython("files")
      yield* Effect.forEach(
        Array.from({ length: 300 }),
        () => Effect.map(send("/server.py"), ({ text }) => assert.equal(text, script)),
        { concurrency: 8, discard: true }
      )
    })
  ),
  holds(
    "HTTP/1.1: bodies both ways, with a length and in chunks",
    Effect.gen(function*() {
      const { send } = yield* toPython("paths")
      for (const length of [0, 1, 65_536, 1_000_000]) {
        const bytes = Buffer.alloc(length, "0123456789")
        for (const body of [bytes, { stream: Stream.succeed(bytes), length: undefined }]) {
          const { body: came } = yield* send("/echo", { method: "POST", body })
          assert.ok(bytes.equals(came), `${length} bytes came back changed`)
        }
      }
      const { text, trailers } = yield* send("/chunked?parts=a,bb,ccc")
      assert.deepEqual([text, trailers], ["abbccc", [["x-parts", "all"]]])
    })
  ),
  holds(
    "HTTP/1.1: what it sees of a call",
    Effect.gen(function*() {
      const { send } = yield* toPython("paths")
      const { headers, length, method, target } = JSON.parse(
        (yield* send("/seen?a=%20&b", { method: "PATCH", headers: [["x-a", "1"]], body: Buffer.from("body") })).text
      )
      assert.deepEqual([method, target, length], ["PATCH", "/seen?a=%20&b", 4])
      assert.ok(headers.some(([name, value]: [string, string]) => name.toLowerCase() === "x-a" && value === "1"))
    })
  ),
  holds(
    "HTTP/1.1: connections that it closes after a response without a word: no GET fails",
    Effect.gen(function*() {
      const { send } = yield* toPython("paths")
      // Each may cost one that is made again.
      for (let i = 0; i < 50; i++) assert.equal((yield* send(`/close?${i}`)).text, "unannounced")
    })
  ),
  holds(
    "HTTP/1.1: many calls at once, each with its own answer",
    Effect.gen(function*() {
      const { send } = yield* toPython("paths")
      yield* Effect.forEach(
        Array.from({ length: 1000 }, (_, i) => i),
        (i) =>
          Effect.map(
            send("/echo", { method: "PUT", body: Buffer.from(`call ${i}`) }),
            ({ text }) => assert.equal(text, `call ${i}`)
          ),
        { concurrency: 16, discard: true }
      )
    })
  )
])

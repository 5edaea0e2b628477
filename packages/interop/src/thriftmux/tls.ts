/** TLS of mux, from the first byte and negotiated: Finagle's servers and ours, called by our clients and Finagle's. */
import { ConnectFailed, FastFailure, Rpc, Timeout } from "@scales-rpc/core"
import { Tls } from "@scales-rpc/core/socket"
import { Certificates } from "@scales-rpc/core/testing"
import type { MuxServerShape, TlsMode } from "@scales-rpc/mux"
import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Finagle from "../Finagle.ts"
import { holds, theme } from "../Suite.ts"
import { connectBody } from "./body.ts"
import { connect, uriOf } from "./echo.ts"
import { serve, serveBodies } from "./ours.ts"
import type { Peers } from "./peers.ts"
import { refused, result } from "./results.ts"

const modes: ReadonlyArray<TlsMode> = ["off", "desired", "required", "always"]

/** What two sides come to; TLS from the first byte is for two that have it. */
const meeting = (one: TlsMode, other: TlsMode): "plain" | "tls" | "none" => {
  if (one === "always" || other === "always") return one === other ? "tls" : "none"
  if (one !== "off" && other !== "off") return "tls"
  return one === "required" || other === "required" ? "none" : "plain"
}

const authority = Certificates.authority("interop")
const server = authority.issue({ name: "server" })
const client = authority.issue({ name: "client" })

/** The same as files, which is how Finagle takes them. */
const files = Effect.acquireRelease(
  Effect.sync(() => {
    const folder = mkdtempSync(join(tmpdir(), "scales-interop-tls-"))
    const write = (name: string, text: string) => {
      writeFileSync(join(folder, name), text)
      return join(folder, name)
    }
    const pair = (name: string, { certificate, key }: Certificates.Certified) => ({
      certificate: write(`${name}.crt`, certificate),
      key: write(`${name}.key`, key)
    })
    return {
      folder,
      ca: write("ca.crt", authority.certificate),
      stranger: write("stranger.crt", Certificates.authority("stranger").certificate),
      server: pair("server", server),
      client: pair("client", client)
    }
  }),
  ({ folder }) => Effect.sync(() => rmSync(folder, { recursive: true }))
)

/** A call of ours that finds no connection, and says that the way to secure it is why. */
const notConnected = <A>(call: Effect.Effect<A, { readonly _tag: string; readonly cause?: unknown }>, what: RegExp) =>
  Effect.map(Effect.flip(call.pipe(Rpc.deadline("1 second"))), (error) => {
    let fault: unknown = error
    while (fault instanceof Timeout || fault instanceof FastFailure) fault = fault.cause
    assert.ok(fault instanceof ConnectFailed, String(error))
    assert.match(fault.message, what)
    return fault
  })

const securedSessions = ({ sessions }: MuxServerShape) => sessions().map(({ secured }) => secured)

/** Every mode of our clients, against one server of Finagle's. */
const toFinagle = (library: Finagle.Library, mode: TlsMode, clients: ReadonlyArray<TlsMode>) =>
  holds(
    `a server of Finagle's (${library}) with TLS ${mode}, and our client with TLS ${clients.join(", ")}`,
    Effect.gen(function*() {
      const { server } = yield* files
      const finagle = yield* Finagle.server(library, { tls: mode, ...server })
      for (const ours of clients) {
        const expected = meeting(ours, mode)
        // A peer that takes the hello of TLS for a frame waits for the rest of it.
        const handshakeTimeout = expected === "none" ? 500 : undefined
        const options = { tls: { ca: authority.certificate, mode: ours, handshakeTimeout } }
        const { call, state } = library === "mux24"
          ? yield* Effect.map(
            connectBody(uriOf(finagle), options),
            ({ state, text }) => ({
              state,
              call: text("x".repeat(100_000)) as Effect.Effect<unknown, { _tag: string }>
            })
          )
          : yield* Effect.map(
            connect(uriOf(finagle), { mux: options }),
            ({ echo, state }) => ({ state, call: echo.ping() as Effect.Effect<unknown, { _tag: string }> })
          )
        const cell = `ours ${ours}, Finagle's ${mode}`
        if (expected === "none") yield* notConnected(call, /^(tls|handshake) failed/)
        else {
          yield* call
          const secured = state("transport").sessions.map((session: { readonly secured: boolean }) => session.secured)
          assert.deepEqual(secured, [expected === "tls"], cell)
        }
      }
    }),
    "40 seconds"
  )

/** Every mode of Finagle's clients, against our servers. */
const fromFinagle = (library: Finagle.Library, pairs: ReadonlyArray<readonly [ours: TlsMode, finagles: TlsMode]>) =>
  holds(
    `our server and Finagle's client (${library}), each with TLS ${[...new Set(pairs.flat())].join(", ")}`,
    Effect.gen(function*() {
      const { ca } = yield* files
      for (const ours of new Set(pairs.map(([ours]) => ours))) {
        const options = { tls: { ...server, mode: ours } }
        const { address, server: shape } = library === "mux24" ? yield* serveBodies(options) : yield* serve(options)
        const finagle = yield* Finagle.client(library, [address], { ca, hostname: "localhost" })
        for (const [, finagles] of pairs.filter(([one]) => one === ours)) {
          const expected = meeting(ours, finagles)
          const answer = yield* finagle.call([library === "mux24" ? "hi" : "ping"], {
            tls: finagles,
            timeout: expected === "none" ? 1000 : 10_000
          })
          const cell = `ours ${ours}, Finagle's ${finagles}: ${JSON.stringify(answer)}`
          assert.equal(answer.ok, expected !== "none", cell)
          if (expected !== "none") {
            assert.equal(securedSessions(shape).at(-1), expected === "tls", cell)
          } else if (ours !== "always" && finagles !== "always") {
            assert.match(JSON.stringify(answer), /negotiate|Incompatible/, cell)
          }
          yield* finagle.close
        }
      }
    }),
    "60 seconds"
  )

const all = modes.flatMap((ours) => modes.map((finagles) => [ours, finagles] as const))

export const tls = theme<Peers>("tls", [
  ...modes.map((mode) => toFinagle("mux24", mode, modes)),
  toFinagle("tm22", "required", ["desired", "off"]),
  toFinagle("tm22", "always", ["always", "off"]),
  fromFinagle("mux24", all),
  fromFinagle("tm22", [["required", "desired"], ["required", "off"], ["always", "always"]]),
  holds(
    "bodies larger than a TLS record, many at a time, over negotiated TLS with fragments both ways",
    Effect.gen(function*() {
      const { server } = yield* files
      const finagle = yield* Finagle.server("mux24", { tls: "required", window: 10_000, ...server })
      const { send } = yield* connectBody(uriOf(finagle), {
        tls: { ca: authority.certificate, mode: "desired" },
        window: 10_000
      })
      yield* Effect.forEach(
        Array.from({ length: 8 }, (_, i) => Buffer.alloc(300_000, `${i} of many; `)),
        (body) => Effect.map(send(body), (reply) => assert.ok(reply.equals(body))),
        { concurrency: "unbounded", discard: true }
      )
    })
  ),
  holds(
    "a server of Finagle's that another authority vouches for, or for another name, is refused, and the reason said",
    Effect.gen(function*() {
      const { server } = yield* files
      const finagle = yield* Finagle.server("mux24", { tls: "required", ...server })
      const refusal = (options: Tls.TlsClientOptions, what: RegExp) =>
        Effect.flatMap(
          connectBody(uriOf(finagle), { tls: { ...options, mode: "required" } }),
          ({ text }) => notConnected(text("x"), what)
        )
      const stranger = Certificates.authority("stranger").certificate
      yield* refusal({ ca: stranger }, /^tls failed at .*: untrusted issuer/)
      yield* refusal(
        { ca: authority.certificate, serverName: "elsewhere.example" },
        /^tls failed at .*: name mismatch: .* not for elsewhere\.example$/
      )
    })
  ),
  holds(
    "a server of ours that another authority vouches for is refused by Finagle's client",
    Effect.gen(function*() {
      const { stranger } = yield* files
      for (const mode of ["always", "required"] as const) {
        const { address, server: shape } = yield* serveBodies({ tls: { ...server, mode } })
        const finagle = yield* Finagle.client("mux24", [address], { ca: stranger, tls: mode, timeout: 2000 })
        refused(yield* finagle.call(["hi"]))
        assert.ok(shape.counts.tlsFailures > 0)
        assert.equal(shape.counts.requests, 0)
      }
    })
  ),
  holds(
    "both sides show certificates, in either direction; a client without one is refused",
    Effect.gen(function*() {
      const at = yield* files
      const finagle = yield* Finagle.server("mux24", { tls: "always", ca: at.ca, clients: "required", ...at.server })
      const ours = yield* connectBody(uriOf(finagle), { tls: { ...client, ca: authority.certificate } })
      assert.equal(yield* ours.text("x"), "x")
      const anonymous = yield* connectBody(uriOf(finagle), { tls: { ca: authority.certificate } })
      const fault = yield* notConnected(anonymous.text("x"), /^tls failed at /)
      assert.ok(fault.cause instanceof Tls.TlsFailed)
      assert.ok(fault.cause.reason.startsWith("certificate-re"), fault.cause.reason)

      const tls = { ...server, ca: authority.certificate, clients: "required" as const }
      for (const mode of ["always", "required"] as const) {
        const { address, server: shape } = yield* serveBodies({ tls: { ...tls, mode } })
        const peer = yield* Finagle.client("mux24", [address], { ca: at.ca, tls: mode, timeout: 2000 })
        assert.equal(result(yield* peer.call(["hi"], at.client)).text, "hi")
        assert.deepEqual(shape.sessions().map(({ certificate }) => certificate?.subject), ["CN=client"])
        refused(yield* peer.call(["hi"]))
      }
    }),
    "40 seconds"
  ),
  holds(
    "Finagle's client goes on when our server's certificate is replaced",
    Effect.gen(function*() {
      const at = yield* files
      const { address, server: shape } = yield* serveBodies({
        tls: { certificate: { path: at.server.certificate }, key: { path: at.server.key }, mode: "required" }
      })
      const finagle = yield* Finagle.client("mux24", [address], { ca: at.ca, tls: "desired" })
      assert.equal(result(yield* finagle.call(["one"])).text, "one")
      const next = authority.issue({ name: "next" })
      writeFileSync(at.server.certificate, next.certificate)
      writeFileSync(at.server.key, next.key)
      yield* shape.sessions()[0]!.drain()
      assert.equal(result(yield* finagle.call(["two"])).text, "two")
      assert.deepEqual(securedSessions(shape), [true])
    })
  )
])

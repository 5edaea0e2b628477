/** Plain Thrift over TLS, with certificates on both sides: Finagle's server and ours, Finagle's client and ours. */
import { ConnectFailed, FastFailure, Rpc, Timeout } from "@scales-rpc/core"
import { Certificates } from "@scales-rpc/core/testing"
import { Thrift } from "@scales-rpc/thrift"
import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Finagle from "../Finagle.ts"
import { type Case, holds, theme } from "../Suite.ts"
import { build, checkedCall, Echo, seen, uriOf } from "../thriftmux/echo.ts"
import { result } from "../thriftmux/results.ts"
import { fromFinagle } from "./echo.ts"
import type { Peers } from "./peers.ts"

const authority = Certificates.authority("interop")
const server = authority.issue({ name: "server" })
const client = authority.issue({ name: "client" })

/** Texts as files, which is how Finagle takes them; their paths by name. */
const files = <const Names extends string>(texts: Readonly<Record<Names, string>>) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "scales-interop-tls-"))),
      (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
    ),
    (folder) => {
      const paths = Object.entries<string>(texts).map(([name, text]) => {
        writeFileSync(join(folder, name), text)
        return [name, join(folder, name)]
      })
      return Object.fromEntries(paths) as Readonly<Record<Names, string>>
    }
  )

/** The cases with TLS. */
export const tls: ReadonlyArray<Case<Peers>> = theme<Peers>("TLS", [
  holds(
    "our client, Finagle's Thrift server: a certificate each, and the upgrade within",
    Effect.gen(function*() {
      const pems = yield* files({ ca: authority.certificate, ...server })
      const finagle = yield* Finagle.thriftServer({ tls: "always", clients: "required", ...pems })
      const ours = { ca: authority.certificate, ...client }
      const { client: echo } = yield* build(
        Echo,
        Thrift.layer(Echo, { uri: uriOf(finagle), tls: ours, upgrade: { clientId: "interop.tls" } })
      )
      yield* checkedCall(echo, 1)
      assert.equal((yield* seen(echo)).clientId, "interop.tls")
    })
  ),
  holds(
    "our client, Finagle's Thrift server: one that our authority does not vouch for is told from one that is down",
    Effect.gen(function*() {
      const finagle = yield* Finagle.thriftServer({ tls: "always", ...(yield* files(server)) })
      const { client: echo } = yield* build(
        Echo,
        Thrift.layer(Echo, { uri: uriOf(finagle), tls: { ca: Certificates.authority("stranger").certificate } })
      )
      let fault: unknown = yield* Effect.flip(echo.ping().pipe(Rpc.deadline("2 seconds")))
      while (fault instanceof Timeout || fault instanceof FastFailure) fault = fault.cause
      assert.ok(fault instanceof ConnectFailed, String(fault))
      assert.match(fault.message, /tls failed.*certificate/i)
    })
  ),
  holds(
    "Finagle's Thrift client, our server: a certificate each, and the upgrade within",
    Effect.gen(function*() {
      const pems = yield* files({ ca: authority.certificate, ...client })
      const options = { tls: { ca: authority.certificate, clients: "required", ...server } } as const
      const { client: finagle, server: ours } = yield* fromFinagle(options, {
        tls: "always",
        hostname: "localhost",
        clientId: "interop.tls",
        ...pems
      })
      assert.deepEqual(result(yield* finagle.call(["blob", 1_000_000])), { length: 1_000_000, equal: true })
      assert.equal(JSON.parse(result(yield* finagle.call(["seen"]))).clientId, "interop.tls")
      const { connections, insecure, upgrades } = ours.counts
      assert.deepEqual([insecure, upgrades], [0, connections])
    })
  )
])

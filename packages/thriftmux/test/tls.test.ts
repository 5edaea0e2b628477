/** TLS through the ready-made client and server: options pass through, and nothing shows what is in them. */
import { assert, describe, it } from "@effect/vitest"
import { describe as describeStack, InvalidOption, Stacks } from "@scales-rpc/core"
import { Certificates } from "@scales-rpc/core/testing"
import type { TlsMode } from "@scales-rpc/mux"
import { ThriftMux, ThriftMuxServer } from "@scales-rpc/thriftmux"
import { Context, Effect, Layer } from "effect"
import * as Util from "node:util"
import { echoHandlers } from "../../examples/src/echo.ts"
import { Echo, leavesNoSockets, serve } from "./support.ts"

leavesNoSockets()

const authority = Certificates.authority("tests")
const passphrase = "open sesame"

describe("ThriftMux over TLS", () => {
  for (const mode of [undefined, "desired", "required"] satisfies ReadonlyArray<TlsMode | undefined>) {
    it.live(`calls, each side with a certificate, mode ${mode}`, () =>
      Effect.gen(function*() {
        const server = yield* serve({}, {
          tls: { ...authority.issue(), ca: authority.certificate, clients: "required", mode }
        })
        const own = authority.issue({ name: "alice", passphrase })
        const tls = { ...own, passphrase, ca: authority.certificate, mode }
        const context = yield* Layer.build(
          Layer.provideMerge(ThriftMux.layer(Echo, { uri: server.uri, mux: { tls } }), Stacks.layer)
        )
        assert.strictEqual(yield* Context.get(context, Echo).ping(), "pong")
        assert.deepStrictEqual(server.sessions().map(({ certificate }) => certificate?.subject), ["CN=alice"])
        const [stack] = Context.get(context, Stacks).list()
        const shown = Util.inspect(describeStack(stack!), { depth: 20 }) + JSON.stringify(describeStack(stack!))
        assert.include(shown, "handshakeTimeoutMillis")
        assert.notMatch(shown, /open sesame|BEGIN|PRIVATE/)
      }))
  }

  it.effect("refuses wrong options when the layer is built", () =>
    Effect.gen(function*() {
      const tls = { certificate: authority.issue().certificate, key: authority.issue().key }
      for (
        const build of [
          Effect.scoped(ThriftMuxServer.make(Echo, echoHandlers(), { tls })),
          Effect.scoped(Layer.build(ThriftMux.layer(Echo, { uri: "tcp://127.0.0.1:1", mux: { tls } })))
        ] as ReadonlyArray<Effect.Effect<unknown, unknown>>
      ) {
        const error = yield* Effect.flip(build)
        assert.instanceOf(error, InvalidOption)
        assert.strictEqual(error.option, "tls.key")
      }
    }))
})

/**
 * Twitter's upgrade of plain Thrift, which Finagle's servers and clients know: the first message on a connection asks for it, and with
 * a server that knows it, a header goes before each request and comes before each reply. The request's header carries what a call
 * carries over mux: client id, trace, deadline and other contexts, destination and delegations. With a server that does not
 * know it, the connection goes on as plain Thrift.
 */
import { InvalidOption } from "@scales-rpc/core"
import * as Effect from "effect/Effect"

/** Options of the upgrade. */
export interface ThriftUpgradeOptions {
  /** Who calls, sent with every call; it beats the client id of the call's context. Default: that of the context, if there is one. */
  readonly clientId?: string | undefined
}

/** What was asked for; `undefined`: no upgrade. */
export const checkedUpgrade = (
  upgrade: ThriftUpgradeOptions | boolean | undefined,
  framing: "framed" | "buffered"
): Effect.Effect<ThriftUpgradeOptions | undefined, InvalidOption> => {
  if (upgrade === undefined || upgrade === false) return Effect.undefined
  // A header and a message in one frame: without frames nobody could say where they end
  return framing === "framed"
    ? Effect.succeed(upgrade === true ? {} : upgrade)
    : Effect.fail(new InvalidOption({ option: "upgrade", got: "given", expected: `none with framing "${framing}"` }))
}

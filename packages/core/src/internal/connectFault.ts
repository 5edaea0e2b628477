/** Whatever connecting met, as the failure of a call that waited for it: it never ran. */
import * as Cause from "effect/Cause"
import type { Endpoint } from "../Endpoint.ts"
import { ConnectFailed, type RpcError } from "../RpcError.ts"

/** A connection that could not be made, or was not usable once it was. */
export const connectFailed = (endpoint: Endpoint, cause: unknown): ConnectFailed =>
  new ConnectFailed({ endpoint, phase: "connect", cause })

/** What a connector failed with, if it says that nothing was sent; else `ConnectFailed` because of it. */
export const faultOf = (endpoint: Endpoint, cause: Cause.Cause<RpcError>): RpcError => {
  const reason = cause.reasons.find(Cause.isFailReason)
  return reason !== undefined && reason.error.reached === "no"
    ? reason.error
    : connectFailed(endpoint, reason !== undefined ? reason.error : Cause.squash(cause))
}

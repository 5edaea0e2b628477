/** Mux as a wire family: what a call of any service looks like on its way to and from a mux connection. */
import { type Family, type RpcError, wire } from "@scales-rpc/core"
import type { Pair } from "./Message.ts"

/** A request: its bytes. Where it goes, and what travels with it, is in the call's context. */
export interface MuxRequest {
  readonly body: Uint8Array
}

/**
 * A successful reply. Both are views of what the socket gave, whose buffer may be much longer and has other replies: copy what you keep,
 * and do not read `body.buffer` without its offset and length.
 */
export interface MuxResponse {
  readonly body: Uint8Array
  readonly contexts: ReadonlyArray<Pair>
}

/** The planes of mux: `Mux.Connector`, `Mux.Endpoints`, `Mux.Balanced`. */
export const Mux: Family<"Mux", MuxRequest, MuxResponse, RpcError> = wire<MuxRequest, MuxResponse>()("Mux")

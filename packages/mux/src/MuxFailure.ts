/** The failure flags that a server attaches to an error or a nack: the context `MuxFailure` of an Rdispatch. */
import { type Pair, sameBytes } from "./Message.ts"

/** The bits. Retryable and NonRetryable exclude each other; Finagle's own numbers in a process differ. */
export const MuxFailure = {
  /** The request may be sent again. */
  Retryable: 1,
  /** The request was not executed. */
  Rejected: 2,
  /** The request must not be sent again. */
  NonRetryable: 4
} as const

const known = MuxFailure.Retryable | MuxFailure.Rejected | MuxFailure.NonRetryable

/** The key of the context, in bytes. */
const key = new TextEncoder().encode("MuxFailure")

/** The context that carries these bits: 64 of them on the wire, of which three have a meaning. */
export const muxFailureContext = (flags: number): Pair => {
  const value = new Uint8Array(8)
  value[7] = flags & known
  return [key, value]
}

/**
 * The bits among the contexts of an Rdispatch; `undefined` when there are none. Unknown bits and bytes behind the eighth are
 * ignored, as is a value of fewer. Where a peer sets both, NonRetryable wins: Finagle does not allow it.
 */
export const muxFailureOf = (contexts: ReadonlyArray<Pair>): number | undefined => {
  for (const [name, value] of contexts) {
    if (!sameBytes(name, key) || value.length < 8) continue
    const flags = value[7]! & known
    return (flags & MuxFailure.NonRetryable) === 0 ? flags : flags & ~MuxFailure.Retryable
  }
  return undefined
}

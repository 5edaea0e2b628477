/** What the codec says of bytes that are no mux, and of messages that cannot be written. */
import { Failure } from "@scales-rpc/core"

/**
 * What is wrong with bytes received. `"frame"`: the size field, or a frame too short for type and tag; `"type"`: no such type;
 * `"tag"`: not one this type may have; `"short"`: the body ends inside a field; `"trailing"`: it goes on after the last;
 * `"value"`: a field has a value it may not have; `"fragment"`: fragments that do not belong together; `"limit"`: a `Limits`
 * bound was passed.
 */
export type DecodeErrorKind = "frame" | "type" | "tag" | "short" | "trailing" | "value" | "fragment" | "limit"

/** Bytes that are no mux. The stream they came from cannot be read on: its connection is closed. */
export class MuxDecodeError extends Failure("MuxDecodeError")<{
  readonly kind: DecodeErrorKind
  /** What was found, where (offsets count from the start of the body) and what was expected. */
  readonly what: string
}> {
  override get message(): string {
    return this.what
  }
}

/**
 * A message that has no form on the wire: a tag out of range, a context, destination or dtab entry over 32767 bytes, a
 * destination or dtab that Finagle's server would close the connection for. Nothing of it was written.
 */
export class MuxEncodeError extends Failure("MuxEncodeError")<{
  /** Which field, what it is and what it may be. */
  readonly what: string
}> {
  override get message(): string {
    return this.what
  }
}

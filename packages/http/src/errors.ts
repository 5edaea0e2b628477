/** What an HTTP call can fail with beside the failures of any stack. */
import { Failure, type RpcError } from "@scales-rpc/core"
import type { HeaderFields } from "./HttpWire.ts"

/**
 * A request that HTTP does not allow, or that would not mean to a server what it says: the cause of the `Unsendable` that its call fails with.
 * Nothing of it has been sent.
 */
export class InvalidRequest extends Failure("InvalidRequest")<{
  readonly part: "method" | "target" | "header" | "body"
  /** The header's name; of the others, the part's. */
  readonly name: string
  /** What is wrong with it, without its value: that may be a secret. */
  readonly what: string
}> {
  override get message(): string {
    return `${this.part === this.name ? this.part : `${this.part} "${this.name}"`} ${this.what}`
  }
}

/**
 * A request's body could not be sent to its end: its stream failed with `cause`, or had not as many bytes as it was said to have. The
 * server may have seen a part of it.
 */
export class RequestBodyFailed extends Failure("RequestBodyFailed")<{ readonly cause: unknown }> {
  /** A server may act on a part. */
  readonly reached = "maybe"
  override get message(): string {
    return `the request's body could not be sent: ${
      this.cause instanceof Error ? this.cause.message : String(this.cause)
    }`
  }
  get retryable(): boolean {
    return false
  }
}

/** A status of 400 or above. It shows no header of the request. */
export class HttpStatusError extends Failure("HttpStatusError")<{
  readonly method: string
  /** Path without query. */
  readonly path: string
  readonly status: number
  /** The text beside the status; empty over HTTP/2. */
  readonly reason: string
  readonly headers: HeaderFields
  /** The first bytes of the body, 4096 at most; of a streamed call's fewer, if it broke or the time was over before. */
  readonly body: Uint8Array
}> {
  /** The server has answered. */
  readonly reached = "maybe"
  override get message(): string {
    return `${this.method} ${this.path}: ${this.status}${this.reason === "" ? "" : ` ${this.reason}`}`
  }
  get retryable(): boolean {
    return false
  }
  /** `body` as text. */
  get text(): string {
    return new TextDecoder().decode(this.body)
  }
}

/** The body of a response has more bytes than are accepted: `limit`. */
export class ResponseTooLarge extends Failure("ResponseTooLarge")<{
  readonly status: number
  readonly limit: number
}> {
  readonly reached = "maybe"
  override get message(): string {
    return `the response's body has more than ${this.limit} bytes`
  }
  get retryable(): boolean {
    return false
  }
}

/** A request's body or a response's is not what its schema says: `what` says which, `cause` where. */
export class HttpBodyError extends Failure("HttpBodyError")<{
  readonly what: "request" | "response"
  readonly cause: unknown
}> {
  get reached(): "no" | "maybe" {
    return this.what === "request" ? "no" : "maybe"
  }
  override get message(): string {
    return `the ${this.what}'s body is not as its schema says: ${
      this.cause instanceof Error ? this.cause.message : String(this.cause)
    }`
  }
  get retryable(): boolean {
    return false
  }
}

/** What a call of `Http` can fail with. */
export type HttpError = RpcError | RequestBodyFailed | HttpStatusError | ResponseTooLarge | HttpBodyError

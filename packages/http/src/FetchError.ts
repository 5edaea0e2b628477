/** What a `fetch` over the stack rejects with. Both are `TypeError`s, which is what callers of `fetch` look for. */

/** A failure that captures no stack trace: they come in storms, and it would show this library. */
class Untraced extends TypeError {
  constructor(message: string, options?: ErrorOptions) {
    const limit = Error.stackTraceLimit
    Error.stackTraceLimit = 0
    super(message, options)
    Error.stackTraceLimit = limit
  }
}

/**
 * The request failed; `cause` says why: what the stack failed with, a `ForeignUrl`, an `InvalidRequest`. The message is that of Node's own
 * `fetch`, which libraries tell failures of the network by.
 */
export class FetchFailed extends Untraced {
  readonly _tag = "FetchFailed"
  constructor(cause: unknown) {
    super("fetch failed", { cause })
  }
}

/** Something of `fetch` that this one does not have, and will not pass over. */
export class FetchUnsupported extends Untraced {
  readonly _tag = "FetchUnsupported"
  /** The member of `RequestInit`, or the header of the response that cannot be heeded. */
  readonly part: string
  constructor(part: string, what: string) {
    super(`${part}: ${what}`)
    this.part = part
  }
}

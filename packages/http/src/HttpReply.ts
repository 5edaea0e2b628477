/** Answers as a caller gets them: whole, or with a body that still comes. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"
import type { RpcError } from "@scales-rpc/core"
import { HttpBodyError } from "./errors.ts"
import { type HeaderFields, headerOf, type HttpResponse, streamOf } from "./HttpWire.ts"

const utf8 = new TextDecoder()

/** What both have. */
class Head {
  protected readonly response: HttpResponse

  constructor(response: HttpResponse) {
    this.response = response
  }

  /** 200 to 999. */
  get status(): number {
    return this.response.status
  }
  /** The text beside the status; empty over HTTP/2. */
  get reason(): string {
    return this.response.reason
  }
  /** In order, names in lower case. */
  get headers(): HeaderFields {
    return this.response.headers
  }
  /** What came behind the body; empty until that has ended. */
  get trailers(): HeaderFields {
    return this.response.trailers
  }
  /** One header, by its name in any case; of several the values joined by commas. */
  header(name: string): string | undefined {
    return headerOf(this.response.headers, name.toLowerCase())
  }
}

/** An answer that is there as a whole. No `content-encoding` is undone, and none is asked for. */
export class HttpReply extends Head {
  /** The body. */
  get bytes(): Uint8Array {
    return this.response.body as Uint8Array
  }
  /** The body as UTF-8. */
  get text(): string {
    return utf8.decode(this.bytes)
  }
  /** The body as JSON, decoded by a schema. Fails with `HttpBodyError` for what is no JSON, and for what the schema refuses. */
  json<S extends Schema.ConstraintDecoder<unknown>>(schema: S): Effect.Effect<S["Type"], HttpBodyError> {
    return Effect.suspend((): Exit.Exit<S["Type"], HttpBodyError> => {
      let value: unknown
      try {
        value = JSON.parse(this.text)
      } catch (cause) {
        return refused(cause)
      }
      const decoded = Schema.decodeUnknownExit(schema)(value)
      return Exit.isSuccess(decoded) ? Exit.succeed(decoded.value) : refused(Cause.squash(decoded.cause))
    })
  }
}

const refused = (cause: unknown): Exit.Exit<never, HttpBodyError> =>
  Exit.fail(new HttpBodyError({ what: "response", cause }))

/**
 * An answer whose body still comes. It holds a connection, and the endpoint's load, until the body has ended or been left, its scope
 * closes, or the call's deadline passes.
 */
export class StreamedReply extends Head {
  /** The body, to be run once. Ending it early closes the connection over HTTP/1.1. */
  get stream(): Stream.Stream<Uint8Array, RpcError> {
    return streamOf(this.response.body)
  }
}

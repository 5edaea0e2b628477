import { assert, describe, it } from "@effect/vitest"
import {
  ConnectFailed,
  ConnectionClosed,
  Endpoint,
  Failure,
  FastFailure,
  InvalidOption,
  InvalidUri,
  MaxWaiters,
  Nacked,
  NoEndpoints,
  ProtocolError,
  type RpcError,
  ServerFailed,
  StackClosed,
  Superseded,
  Timeout,
  UnknownScheme,
  Unsendable
} from "@scales-rpc/core"
import { Effect } from "effect"

const endpoint = Endpoint.tcp("h", 1)
const cause = new Error("ECONNRESET")

/** Every failure, with what it says of the request and of sending it again. */
const table: ReadonlyArray<[RpcError, reached: "no" | "maybe", retryable: boolean, message: string]> = [
  [
    new Timeout({ timeoutMillis: 250, waiting: "reply", reached: "maybe", endpoint, cause: undefined }),
    "maybe",
    false,
    "no reply within 250 ms, waiting for reply at h:1"
  ],
  [
    new Timeout({ timeoutMillis: 250, waiting: "endpoint", reached: "no", endpoint: undefined, cause }),
    "no",
    false,
    "no reply within 250 ms, waiting for endpoint: ECONNRESET"
  ],
  [new Superseded({ reached: "maybe", endpoint }), "maybe", false, "superseded by another attempt at h:1"],
  [new StackClosed({ stack: "echo", reached: "no", endpoint: undefined }), "no", false, `client "echo" is closed`],
  [new NoEndpoints({ stack: "echo", cause: undefined }), "no", false, `no endpoint for "echo"`],
  [new ConnectFailed({ endpoint, phase: "tls", cause }), "no", true, "tls failed at h:1: ECONNRESET"],
  [new FastFailure({ endpoint, cause, nextAttempt: 5 }), "no", true, "down at h:1: ECONNRESET"],
  [new ConnectionClosed({ endpoint, reached: "no", cause }), "no", true, "connection closed at h:1: ECONNRESET"],
  [
    new ConnectionClosed({ endpoint, reached: "maybe", cause: "end of stream" }),
    "maybe",
    false,
    "connection closed at h:1: end of stream"
  ],
  [new Nacked({ endpoint, why: "overload", retryable: true }), "no", true, "refused at h:1: overload"],
  [new Nacked({ endpoint, why: "overload", retryable: false }), "no", false, "refused at h:1: overload"],
  [
    new ServerFailed({ endpoint, why: "sad panda", retryable: false, rejected: false }),
    "maybe",
    false,
    "server failed at h:1: sad panda"
  ],
  [
    new ServerFailed({ endpoint, why: "sad panda", retryable: true, rejected: true }),
    "no",
    true,
    "server failed at h:1: sad panda"
  ],
  [
    new ProtocolError({ endpoint: undefined, what: "a frame of -1 bytes", cause: undefined }),
    "maybe",
    false,
    "protocol error: a frame of -1 bytes"
  ],
  [new Unsendable({ what: "a oneway method", cause: undefined }), "no", false, "cannot be sent: a oneway method"],
  [new MaxWaiters({ endpoint, max: 10 }), "no", true, "more than 10 calls wait for a connection at h:1"]
]

describe("a failure of a call", () => {
  it("says whether the request can have run, whether it may be sent again, and what happened", () => {
    for (const [error, reached, retryable, message] of table) {
      assert.strictEqual(error.reached, reached, message)
      assert.strictEqual(error.retryable, retryable, message)
      assert.strictEqual(error.message, message)
    }
  })

  it("that may be sent again never ran, unless the server itself asks for it", () => {
    for (const [error] of table) {
      if (error.retryable && error._tag !== "ServerFailed") assert.strictEqual(error.reached, "no", error.message)
    }
  })

  it("is an error by its tag's name, without a trace of the library, and others keep theirs", () => {
    const limit = Error.stackTraceLimit
    for (const [error] of table) {
      assert.instanceOf(error, Error)
      assert.strictEqual(error.name, error._tag)
      assert.notMatch(error.stack ?? "", /\n\s+at /)
    }
    assert.strictEqual(Error.stackTraceLimit, limit)
    assert.match(new Error("x").stack!, /\n\s+at /)
  })

  it("keeps the cause it was given", () => {
    for (const [error] of table) {
      if ("cause" in error && error.cause instanceof Error) assert.strictEqual(error.cause, cause)
    }
  })

  it.effect("can be yielded and caught by its tag", () =>
    Effect.gen(function*() {
      const call = Effect.gen(function*() {
        return yield* new NoEndpoints({ stack: "echo", cause: undefined })
      })
      assert.strictEqual(yield* Effect.catchTag(call, "NoEndpoints", ({ stack }) => Effect.succeed(stack)), "echo")
    }))

  it("of a protocol's own is made the same way", () => {
    class Odd extends Failure("Odd")<{ readonly code: number }> {
      override get message(): string {
        return `code ${this.code}`
      }
    }
    const odd = new Odd({ code: 7 })
    assert.strictEqual(odd._tag, "Odd")
    assert.strictEqual(odd.message, "code 7")
    assert.notMatch(odd.stack ?? "", /\n\s+at /)
  })
})

describe("a failure of a build", () => {
  it("says what was given and what would be right", () => {
    assert.strictEqual(
      new InvalidUri({ uri: "tcp://a", what: `"a" has no port`, expected: "tcp://host:port" }).message,
      `invalid URI "tcp://a": "a" has no port; expected tcp://host:port`
    )
    assert.strictEqual(
      new UnknownScheme({ uri: "ftp://a", scheme: "ftp", known: ["tcp", "unix"] }).message,
      `unknown scheme "ftp" in "ftp://a"; known: tcp, unix`
    )
    assert.strictEqual(
      new InvalidOption({ option: "timeout", got: -1, expected: "a duration" }).message,
      "invalid option timeout: got -1, expected a duration"
    )
  })
})

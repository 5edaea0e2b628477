import { assert, describe, it } from "@effect/vitest"
import type { MuxServerShape } from "@scales-rpc/mux"
import { ErrorReply, MuxFailure, Nack } from "@scales-rpc/mux"
import { RawPeer } from "@scales-rpc/mux/testing"
import { ThriftException } from "@scales-rpc/thrift"
import { Deferred, Effect, Fiber } from "effect"
import { Overdrawn, Refused } from "../../examples/gen/echo_types.js"
import { connect, type EchoHandlers, leavesNoSockets, message, serve, until } from "./support.ts"

leavesNoSockets()

/** The frame of a message: its type and tag, and what follows, in hexadecimal. */
const frame = (head: string, body: string): string => {
  const size = Buffer.alloc(4)
  size.writeInt32BE((head.length + body.length) / 2)
  return size.toString("hex") + head + body
}
/** A Tdispatch with tag 2 and nothing but a body. */
const dispatch = (body: string): string => frame("02000002", `000000000000${body}`)

/** Sends frames as they are, with no handshake, and gives the first frame that comes back. */
const answerTo = (server: MuxServerShape, ...frames: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const connection = yield* RawPeer.connect(server.address)
    for (const frame of frames) connection.write(frame)
    yield* connection.next()
    return connection.frames[0]!
  }).pipe(Effect.scoped)

const hello =
  "0b00010000001768656c6c6f20776f726c642068656c6c6f20776f726c640a0002000000000000000c0f0003080000000400000001000000020000000300000004"
const call = {
  echo: `80010001000000046563686f000000010c0001${hello}0000`,
  fail: "80010001000000046661696c000000010b000100000003776879 0a00020000000000000000 00".replaceAll(" ", ""),
  crash: "80010001000000056372617368000000030b0001000000046f6f707300",
  note: "80010004000000046e6f7465000000010b0001000000047465787400",
  ping: "800100010000000470696e670000000100"
}

/** What Finagle 22.7 and 24.2 wrote in answer to the same, byte for byte; where a Java class is named, ours is. */
describe("a ThriftMux server answers as Finagle's", () => {
  const answers = (
    what: string,
    request: string,
    reply: string,
    handlers: Partial<EchoHandlers> = {}
  ) =>
    it.live(what, () =>
      Effect.gen(function*() {
        assert.strictEqual(yield* answerTo(yield* serve(handlers), request), reply)
      }))

  answers(
    "a result",
    "000000600200000200000000000080010001000000046563686f000000010c00010b00010000001768656c6c6f20776f726c642068656c6c6f20776f726c640a0002000000000000000c0f00030800000004000000010000000200000003000000040000",
    "0000005dfe00000200000080010002000000046563686f000000010c00000b00010000001768656c6c6f20776f726c642068656c6c6f20776f726c640a0002000000000000000c0f00030800000004000000010000000200000003000000040000"
  )
  answers("a oneway call", dispatch(call.note), "00000007fe000002000000")
  answers(
    "a declared exception",
    dispatch(call.fail),
    "00000026fe00000200000080010002000000046661696c000000010c00010b0001000000037768790000"
  )
  answers(
    "a defect",
    dispatch(call.crash),
    frame(
      "fe000002",
      `00000080010003000000056372617368000000030b00010000002e${
        Buffer.from("Internal error processing crash: 'Error: oops'").toString("hex")
      }0800020000000600`
    )
  )
  answers(
    "a refusal",
    dispatch(call.ping),
    "0000001dfe000002020001000a4d75784661696c75726500080000000000000003",
    { ping: () => Effect.fail(new Nack({})) }
  )
  answers(
    "a refusal without flags",
    dispatch(call.ping),
    "00000007fe000002020000",
    { ping: () => Effect.fail(new Nack({ flags: 0 })) }
  )
  answers(
    "a failure that is not to be tried again",
    dispatch(call.ping),
    "0000001ffe000002010001000a4d75784661696c757265000800000000000000046e6f",
    { ping: () => Effect.fail(new ErrorReply({ why: "no", flags: MuxFailure.NonRetryable })) }
  )
  answers(
    "a failure without flags",
    dispatch(call.ping),
    "00000025fe0000020100006a6176612e6c616e672e457863657074696f6e3a207361642070616e6461",
    { ping: () => Effect.fail(new ErrorReply({ why: "java.lang.Exception: sad panda" })) }
  )
  answers(
    "a refusal of a Treq",
    frame("01000002", `00${call.ping}`),
    "00000005ff00000202",
    { ping: () => Effect.fail(new Nack({})) }
  )

  it.live("an empty body, one that is no Thrift, and one that is cut short: with a mux error", () =>
    Effect.gen(function*() {
      const server = yield* serve()
      for (const body of ["", "68656c6c6f", "00000010aabb", call.echo.slice(0, 60)]) {
        const frame = yield* answerTo(server, dispatch(body))
        assert.strictEqual(frame.slice(8, 18), "fe00000201")
        assert.include(Buffer.from(frame, "hex").toString("latin1"), "ThriftProtocolError: ")
      }
    }))
})

describe("the client of a handler that", () => {
  it.live("throws a declared exception gets it, as the class that it is", () =>
    Effect.gen(function*() {
      const { echo } = yield* connect(yield* serve())
      const refused = yield* Effect.flip(echo.fail("why", message("", 0).number))
      assert.instanceOf(refused, ThriftException)
      assert.instanceOf(refused.exception, Refused)
      const overdrawn = yield* Effect.flip(echo.fail("why", message("", 2n ** 62n).number))
      assert.instanceOf(overdrawn, ThriftException)
      assert.instanceOf(overdrawn.exception, Overdrawn)
    }))

  it.live("fails otherwise, dies, or answers what is no result, gets an internal error that says what", () =>
    Effect.gen(function*() {
      const { echo } = yield* connect(
        yield* serve({
          slow: () => Effect.fail(new Refused({ why: "not declared by this method" })) as never,
          seen: () => Effect.void as never
        })
      )
      const errors = yield* Effect.forEach([echo.crash("oops"), echo.slow(1), echo.seen()], (call) => Effect.flip(call))
      assert.deepStrictEqual(errors.map((error) => [error._tag, error.message]), [
        ["ThriftApplicationException", "Internal error processing crash: 'Error: oops'"],
        ["ThriftApplicationException", "Internal error processing slow: 'Refused: Refused'"],
        ["ThriftApplicationException", "Internal error processing seen: 'ThriftEncodeError: seen: no result to write'"]
      ])
    }))

  it.live("is not there gets told so", () =>
    Effect.gen(function*() {
      const server = yield* serve({ ping: undefined as never })
      const { echo } = yield* connect(server)
      const error = yield* Effect.flip(echo.ping())
      assert.strictEqual(error._tag === "ThriftApplicationException" && error.typeName, "UNKNOWN_METHOD")
      assert.strictEqual(error.message, "Invalid method name: 'ping'")
    }))

  it.live("refuses for good gets the refusal; nothing is sent again", () =>
    Effect.gen(function*() {
      let calls = 0
      const { echo } = yield* connect(
        yield* serve({
          ping: () => {
            calls++
            return Effect.fail(new Nack({ flags: MuxFailure.Rejected, why: "not here" }))
          },
          crash: () =>
            Effect.fail(new ErrorReply({ why: "never", flags: MuxFailure.NonRetryable | MuxFailure.Rejected }))
        })
      )
      const nacked = yield* Effect.flip(echo.ping())
      assert.strictEqual(nacked._tag, "Nacked")
      assert.deepInclude(nacked, { why: "not here", retryable: false, reached: "no" })
      assert.strictEqual(calls, 1)
      const failed = yield* Effect.flip(echo.crash(""))
      assert.strictEqual(failed._tag, "ServerFailed")
      assert.deepInclude(failed, { why: "never", retryable: false, rejected: true, reached: "no" })
    }))

  it.live("refuses for now is served by another server", () =>
    Effect.gen(function*() {
      let refusals = 0
      const busy = yield* serve({
        ping: () => {
          refusals++
          return Effect.fail(new Nack({}))
        }
      })
      const { echo, live } = yield* connect([busy, yield* serve({ ping: () => Effect.succeed("the other") })])
      for (let i = 0; i < 10; i++) assert.strictEqual(yield* echo.ping(), "the other")
      assert.isAbove(refusals, 0)
      assert.strictEqual(live().requeues, refusals)
    }))
})

describe("a server at its limit of concurrent calls", () => {
  it.live("refuses one more, which goes to another server", () =>
    Effect.gen(function*() {
      const gate = Deferred.makeUnsafe<void>()
      const slow = () => Effect.as(Deferred.await(gate), "slow")
      const limited = yield* serve({ slow }, { maxConcurrent: 2 })
      const other = yield* serve({ slow })
      const { echo } = yield* connect([limited, other])
      const calls = yield* Effect.forEach(Array.from({ length: 12 }), () => Effect.forkChild(echo.slow(1)))
      yield* until("all calls run", () => limited.outstanding() + other.outstanding() === 12)
      assert.deepStrictEqual([limited.outstanding(), other.outstanding()], [2, 10])
      assert.isAbove(limited.counts.concurrencyNacks, 0)
      yield* Deferred.succeed(gate, undefined)
      assert.deepStrictEqual(yield* Effect.forEach(calls, Fiber.join), Array.from({ length: 12 }, () => "slow"))
    }))

  it.live("refuses for good when there is no other: the call fails with the refusal, after a budget of tries", () =>
    Effect.gen(function*() {
      const limited = yield* serve({}, { maxConcurrent: 0 })
      const { echo } = yield* connect(limited)
      const error = yield* Effect.flip(echo.ping())
      assert.strictEqual(error._tag, "Nacked")
      assert.isAbove(limited.counts.concurrencyNacks, 1)
      assert.isBelow(limited.counts.concurrencyNacks, 50)
    }))
})

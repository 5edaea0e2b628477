import { assert, describe, it } from "@effect/vitest"
import { CallContext, type RpcError, Trace } from "@scales-rpc/core"
import { encodeHeaders, type Message, MuxFailure, muxFailureContext, responseHeadersId } from "@scales-rpc/mux"
import { ClientContexts } from "../../src/ClientContexts.ts"
import { none, replyFragments, utf8 } from "../vectors.ts"
import { type Driven, endpoint, framer, ok, opened } from "./scripted.ts"

/** One call of `driven`, answered with a frame. */
const answered = async (frame: string | Message.Message) => {
  const driven = await opened()
  const sent = driven.send("hi")
  await driven.take()
  driven.deliver(frame)
  await driven.finish()
  return sent
}

const pick = (error: RpcError, ...keys: ReadonlyArray<string>): object =>
  Object.fromEntries(["_tag", ...keys].map((key) => [key, (error as unknown as Record<string, unknown>)[key]]))

const tagsOf = (messages: ReadonlyArray<Message.Message>) => messages.map(({ tag }) => tag)

describe("a call", () => {
  it("goes and comes back byte for byte as Finagle's", async () => {
    const driven = await opened()
    const sent = driven.send("hello")
    assert.deepStrictEqual(await driven.hex(), ["0000000f0200000200000000000068656c6c6f"])
    driven.deliver("0000000cfe000002000000776f726c64")
    assert.strictEqual(sent.text, "world")
    assert.deepStrictEqual(sent.response.contexts, [])
    await driven.finish()
  })

  it("shares one write with everything else of its turn", async () => {
    const driven = await opened()
    for (let i = 0; i < 20; i++) driven.send(`call ${i}`)
    driven.deliver({ _tag: "Tping", tag: 1 })
    driven.sent[3]!.interrupt()
    const writes = driven.wire.chunks.length
    const messages = await driven.take()
    assert.strictEqual(writes, 0)
    assert.strictEqual(messages.length, 20)
    assert.deepStrictEqual(messages.at(-1), { _tag: "Rping", tag: 1 })
    for (const { tag } of messages.slice(0, -1)) driven.deliver(ok(tag, ""))
    await driven.finish()
  })

  it("takes one write a turn", async () => {
    const driven = await opened()
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 10; i++) driven.send("hi")
      assert.strictEqual((await driven.hex()).length, 1)
    }
    for (let tag = 2; tag < 32; tag++) driven.deliver(ok(tag, ""))
    await driven.finish()
  })

  it("gets the smallest free tag", async () => {
    const driven = await opened()
    for (let i = 0; i < 5; i++) driven.send("hi")
    assert.deepStrictEqual(tagsOf(await driven.take()), [2, 3, 4, 5, 6])
    driven.deliver(ok(5, ""), ok(3, ""))
    for (let i = 0; i < 3; i++) driven.send("hi")
    assert.deepStrictEqual(tagsOf(await driven.take()), [3, 5, 7])
    for (const tag of [2, 3, 4, 5, 6, 7]) driven.deliver(ok(tag, ""))
    assert.strictEqual(driven.session.tagsInUse, 0)
    await driven.finish()
  })

  it("gets its own reply, in whatever order they come", async () => {
    const driven = await opened()
    const calls = Array.from({ length: 50 }, (_, i) => driven.send(`call ${i}`))
    const requests = await driven.take()
    for (const request of requests.toReversed()) {
      driven.deliver(ok(request.tag, `reply to ${Buffer.from((request as Message.Tdispatch).body).toString()}`))
    }
    for (const [i, call] of calls.entries()) assert.strictEqual(call.text, `reply to call ${i}`)
    await driven.finish()
  })

  it("is refused, retryable, when every tag is in use", async () => {
    const driven = await opened({ maxTag: 4 })
    for (let i = 0; i < 3; i++) driven.send("hi")
    const refused = driven.send("one too many")
    assert.deepStrictEqual(pick(refused.error, "reached", "retryable"), {
      _tag: "Nacked",
      reached: "no",
      retryable: true
    })
    assert.strictEqual((await driven.take()).length, 3)
    driven.deliver(ok(3, ""))
    driven.send("now")
    assert.deepStrictEqual(tagsOf(await driven.take()), [3])
    for (const tag of [2, 3, 4]) driven.deliver(ok(tag, ""))
    await driven.finish()
  })

  it("that has no form on the wire fails alone, and holds no tag", async () => {
    const driven = await opened({ contexts: new ClientContexts(() => 0.5) })
    const unsendable = driven.send("hi", {
      context: CallContext.empty.with({ id: "big", encode: (n: number) => new Uint8Array(n) }, 32768)
    })
    assert.deepStrictEqual(pick(unsendable.error, "reached", "retryable"), {
      _tag: "Unsendable",
      reached: "no",
      retryable: false
    })
    assert.include(unsendable.error.message, "32768")
    driven.send("hi")
    assert.deepStrictEqual(tagsOf(await driven.take()), [2])
    driven.deliver(ok(2, ""))
    await driven.finish()
  })

  it("whose own entry cannot be encoded dies with the defect, and holds no tag", async () => {
    const driven = await opened({ contexts: new ClientContexts(() => 0.5) })
    const encode = () => {
      throw new Error("no bytes for this")
    }
    const sent = driven.send("hi", { context: CallContext.empty.with({ id: "bad", encode }, 1) })
    assert.strictEqual(sent.exit?._tag, "Failure")
    assert.strictEqual(driven.session.tagsInUse, 0)
    await driven.finish()
  })
})

describe("a reply", () => {
  it("for a tag that nobody holds is let go", async () => {
    const driven = await opened()
    const sent = driven.send("hi")
    await driven.take()
    driven.deliver(ok(3, "whose?"), ok(0, ""), ok(1, ""), ok(8_388_607, ""), ok(2, "yours"), ok(2, "again"))
    assert.strictEqual(sent.text, "yours")
    assert.strictEqual(driven.session.status.state, "Open")
    await driven.finish()
  })

  it("cannot answer a request of which nothing has left", async () => {
    const driven = await opened()
    const first = driven.send("first")
    await driven.take()
    driven.deliver(ok(2, "one"))
    const second = driven.send("second")
    // The server answers the first a second time, in the turn in which the tag has gone to another call.
    driven.deliver(ok(2, "one again"), { _tag: "Rerr", tag: 2, why: "no" }, { _tag: "Rdiscarded", tag: 2 })
    assert.strictEqual(second.ends, 0)
    assert.strictEqual(driven.counts.downgrades, 0)
    assert.deepStrictEqual((await driven.take()).map((frame) => frame._tag), ["Tdispatch"])
    driven.deliver(ok(2, "two"))
    assert.strictEqual(first.text, "one")
    assert.strictEqual(second.text, "two")
    await driven.finish()
  })

  it("in fragments is put together", async () => {
    const driven = await opened()
    const sent = driven.send("big:20")
    await driven.take()
    for (const fragment of replyFragments) {
      assert.strictEqual(sent.ends, 0)
      driven.deliver(fragment)
    }
    assert.strictEqual(sent.text, "x".repeat(20))
    await driven.finish()
  })

  it("in fragments may be interleaved with others", async () => {
    const driven = await opened()
    const calls = [driven.send("a"), driven.send("b"), driven.send("c")]
    await driven.take()
    const slices = (tag: number, letter: string) => [
      `00000007fe80000${tag}000000`,
      `00000005fe80000${tag}${Buffer.from(letter).toString("hex")}`,
      `00000005fe00000${tag}${Buffer.from(letter).toString("hex")}`
    ]
    const [a, b] = [slices(2, "a"), slices(3, "b")]
    driven.deliver(a[0]!, b[0]!, a[1]!, ok(4, "whole"), b[1]!, { _tag: "Tping", tag: 7 }, b[2]!, a[2]!)
    assert.deepStrictEqual(calls.map((call) => call.text), ["aa", "bb", "whole"])
    assert.deepStrictEqual(await driven.take(), [{ _tag: "Rping", tag: 7 }])
    await driven.finish()
  })

  it("in fragments is ended by an Rerr or an Rdiscarded, and the tag is clean for the next", async () => {
    for (const end of [{ _tag: "Rerr", tag: 2, why: "gave up" }, { _tag: "Rdiscarded", tag: 2 }] as const) {
      const driven = await opened()
      driven.send("warm-up")
      await driven.take()
      driven.deliver(ok(2, ""))
      const first = driven.send("first")
      await driven.take()
      driven.deliver(replyFragments[0]!, replyFragments[1]!, end)
      assert.strictEqual(first.error._tag, "ServerFailed")
      const second = driven.send("second")
      await driven.take()
      driven.deliver(ok(2, "clean"))
      assert.strictEqual(second.text, "clean")
      await driven.finish()
    }
  })

  it("gives its application headers to who asked", async () => {
    const driven = await opened()
    const reply = { headers: [] as ReadonlyArray<readonly [string, string]> }
    const sent = driven.send("hi", { reply })
    await driven.take()
    const headers = [["name", "value"], ["name", "other"]] as const
    const context: Message.Pair = [utf8(responseHeadersId), encodeHeaders(headers).bytes]
    driven.deliver(ok(2, "ho", [[utf8("else"), utf8("1")], context]))
    assert.deepStrictEqual(reply.headers, headers)
    assert.strictEqual(sent.response.contexts.length, 2)
    await driven.finish()
  })

  it("without headers, or with some that do not read, gives none", async () => {
    for (const contexts of [[], [[utf8(responseHeadersId), utf8("\x7f")]]] as ReadonlyArray<Array<Message.Pair>>) {
      const driven = await opened()
      const reply = { headers: [["left", "over"]] as ReadonlyArray<readonly [string, string]> }
      driven.send("hi", { reply })
      await driven.take()
      driven.deliver(ok(2, "ho", contexts))
      assert.deepStrictEqual(reply.headers, [])
      await driven.finish()
    }
  })
})

const error = (flags?: number): Message.Rdispatch => ({
  _tag: "Rdispatch",
  tag: 2,
  status: 1,
  contexts: flags === undefined ? [] : [muxFailureContext(flags)],
  body: utf8("sad panda")
})

const nack = (flags?: number, why = ""): Message.Rdispatch => ({
  ...error(flags),
  status: 2,
  body: utf8(why)
})

const { NonRetryable, Rejected, Retryable } = MuxFailure

describe("an answer that is no reply", () => {
  it("with status 1 is the server's failure, with its flags", async () => {
    const cases: ReadonlyArray<readonly [number | undefined, boolean, boolean]> = [
      [undefined, false, false],
      [0, false, false],
      [Retryable, true, false],
      [Rejected, false, true],
      [Retryable | Rejected, true, true],
      [NonRetryable, false, false],
      [NonRetryable | Rejected, false, true],
      [NonRetryable | Retryable, false, false],
      [NonRetryable | Retryable | Rejected, false, true]
    ]
    for (const [flags, retryable, rejected] of cases) {
      const { error: failed } = await answered(withBits(error(flags), flags))
      assert.deepStrictEqual(
        pick(failed, "endpoint", "why", "retryable", "rejected", "reached"),
        { _tag: "ServerFailed", endpoint, why: "sad panda", retryable, rejected, reached: rejected ? "no" : "maybe" },
        `flags ${flags}`
      )
    }
  })

  it("with status 2 is a nack: retryable, unless its flags say otherwise", async () => {
    const cases: ReadonlyArray<readonly [number | undefined, boolean]> = [
      [undefined, true],
      [0, false],
      [Retryable, true],
      [Rejected, false],
      [Retryable | Rejected, true],
      [NonRetryable, false],
      [NonRetryable | Rejected, false],
      [NonRetryable | Retryable, false]
    ]
    for (const [flags, retryable] of cases) {
      const { error: failed } = await answered(withBits(nack(flags), flags))
      assert.deepStrictEqual(
        pick(failed, "endpoint", "retryable", "reached"),
        { _tag: "Nacked", endpoint, retryable, reached: "no" },
        `flags ${flags}`
      )
    }
  })

  it("with flags of another length or with unknown bits means what is known of it", async () => {
    const flagged = (value: Uint8Array): Message.Rdispatch => ({ ...error(), contexts: [[utf8("MuxFailure"), value]] })
    assert.isFalse((await answered(flagged(Uint8Array.of(0, 0, 0, 0, 0, 0, 1)))).error.retryable)
    assert.isTrue((await answered(flagged(Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 1, 9)))).error.retryable)
    assert.isTrue((await answered(flagged(Uint8Array.of(255, 0, 0, 0, 0, 0, 0, 0xf9)))).error.retryable)
  })

  it("is Finagle's to the byte", async () => {
    const cases: ReadonlyArray<readonly [string, object]> = [
      ["00000025fe0000020100006a6176612e6c616e672e457863657074696f6e3a207361642070616e6461", {
        _tag: "ServerFailed",
        why: "java.lang.Exception: sad panda",
        retryable: false
      }],
      ["00000007fe000002020000", { _tag: "Nacked", retryable: true }],
      ["0000001dfe000002020001000a4d75784661696c75726500080000000000000003", { _tag: "Nacked", retryable: true }],
      ["0000001ffe000002010001000a4d75784661696c757265000800000000000000046e6f", {
        _tag: "ServerFailed",
        why: "no",
        retryable: false,
        rejected: false
      }],
      ["00000009ff00000201626f6f6d", { _tag: "ServerFailed", why: "boom" }],
      ["00000005ff00000202", { _tag: "Nacked", retryable: true }],
      ["00000004be000002", { _tag: "ServerFailed", retryable: false }]
    ]
    for (const [hex, expected] of cases) assert.deepInclude((await answered(hex)).error, expected)
  })

  it("may give the reason of a nack", async () => {
    assert.include((await answered(nack(undefined, "too busy"))).error.message, "too busy")
  })

  it("by an Rreq is as good", async () => {
    assert.strictEqual((await answered("0000000aff00000200776f726c64")).text, "world")
  })

  it("of any other kind ends the call too, and frees its tag", async () => {
    const answers: ReadonlyArray<Message.Message> = [
      { _tag: "Rdiscarded", tag: 2 },
      { _tag: "Rdrain", tag: 2 },
      { _tag: "Rinit", tag: 2, version: 1, headers: [] }
    ]
    for (const answer of answers) {
      assert.deepStrictEqual(pick((await answered(answer)).error, "endpoint", "reached", "retryable", "rejected"), {
        _tag: "ServerFailed",
        endpoint,
        reached: "maybe",
        retryable: false,
        rejected: false
      })
    }
  })

  it("counts nacks", async () => {
    const driven = await opened()
    driven.send("hi")
    driven.send("hi")
    await driven.take()
    driven.deliver(nack(), { _tag: "Rreq", tag: 3, status: 2, body: none })
    assert.strictEqual(driven.counts.nacks, 2)
    assert.strictEqual(driven.counts.dispatches, 2)
    await driven.finish()
  })
})

/** With the bits as they are: our own encoder does not write Retryable beside NonRetryable. */
function withBits(message: Message.Rdispatch, flags: number | undefined): Message.Rdispatch {
  return flags === undefined
    ? message
    : { ...message, contexts: [[utf8("MuxFailure"), Uint8Array.of(0, 0, 0, 0, 0, 0, 0, flags)]] }
}

describe("an Rerr", () => {
  /** A session whose server has answered a Tdispatch. */
  const proven = async (): Promise<Driven> => {
    const driven = await opened()
    driven.send("first")
    await driven.take()
    driven.deliver(ok(2, ""))
    return driven
  }

  it("is the server's failure", async () => {
    const driven = await proven()
    const sent = driven.send("hi")
    await driven.take()
    driven.deliver("000000297f0000025265636569766564206475706c69636174652074616720322066726f6d20636c69656e742e")
    assert.deepStrictEqual(pick(sent.error, "endpoint", "why", "retryable", "reached"), {
      _tag: "ServerFailed",
      endpoint,
      why: "Received duplicate tag 2 from client.",
      retryable: false,
      reached: "maybe"
    })
    assert.strictEqual(driven.session.status.state, "Open")
    await driven.finish()
  })

  it("is so too when all that the server has answered were failures", async () => {
    const driven = await opened()
    driven.send("first")
    await driven.take()
    driven.deliver(error())
    const sent = driven.send("hi")
    await driven.take()
    driven.deliver({ _tag: "Rerr", tag: 2, why: "no" })
    assert.deepStrictEqual(pick(sent.error, "why"), { _tag: "ServerFailed", why: "no" })
    assert.deepStrictEqual(await driven.take(), [])
    await driven.finish()
  })

  it("for nobody is let go", async () => {
    const driven = await proven()
    driven.deliver({ _tag: "Rerr", tag: 1, why: "Unexpected mux message type 65" }, { _tag: "Rerr", tag: 9, why: "" })
    assert.strictEqual(driven.session.status.state, "Open")
    await driven.finish()
  })

  it("to the first dispatch of a session has it sent again as a Treq, and all that follow", async () => {
    const driven = await opened()
    const sent = driven.send("hello")
    assert.deepStrictEqual(await driven.hex(), ["0000000f0200000200000000000068656c6c6f"])
    driven.deliver({ _tag: "Rerr", tag: 2, why: "Unexpected mux message type 2" })
    assert.strictEqual(sent.ends, 0)
    assert.strictEqual(driven.session.tagsInUse, 1)
    assert.deepStrictEqual(await driven.hex(), ["0000000a010000020068656c6c6f"])
    driven.deliver("0000000aff00000200776f726c64")
    assert.strictEqual(sent.text, "world")
    const next = driven.send("hello")
    assert.deepStrictEqual(await driven.hex(), ["0000000a010000020068656c6c6f"])
    driven.deliver("00000009ff00000201626f6f6d")
    assert.strictEqual(next.error._tag, "ServerFailed")
    assert.strictEqual(driven.counts.downgrades, 1)
    await driven.finish()
  })

  it("to several first dispatches has each sent again", async () => {
    const driven = await opened()
    const calls = [driven.send("a"), driven.send("b"), driven.send("c")]
    await driven.take()
    const rerr = (tag: number): Message.Message => ({ _tag: "Rerr", tag, why: "Unexpected mux message type 2" })
    driven.deliver(rerr(2), rerr(3))
    driven.deliver(rerr(4))
    const treqs = await driven.take()
    assert.deepStrictEqual(treqs.map(({ _tag, tag }) => [_tag, tag]), [["Treq", 2], ["Treq", 3], ["Treq", 4]])
    for (const { tag } of treqs) driven.deliver({ _tag: "Rreq", tag, status: 0, body: utf8(`${tag}`) })
    assert.deepStrictEqual(calls.map((call) => call.text), ["2", "3", "4"])
    assert.strictEqual(driven.counts.downgrades, 1)
    await driven.finish()
  })

  it("to a Treq is the server's failure", async () => {
    const driven = await opened()
    const sent = driven.send("hi")
    await driven.take()
    driven.deliver({ _tag: "Rerr", tag: 2, why: "no Tdispatch here" })
    await driven.take()
    driven.deliver({ _tag: "Rerr", tag: 2, why: "no Treq either" })
    assert.deepStrictEqual(pick(sent.error, "why"), { _tag: "ServerFailed", why: "no Treq either" })
    assert.strictEqual(driven.session.tagsInUse, 0)
    await driven.finish()
  })

  it("from a server that answers another Tdispatch is no word on Tdispatch", async () => {
    const driven = await opened()
    const calls = [driven.send("a"), driven.send("b")]
    await driven.take()
    driven.deliver({ _tag: "Rerr", tag: 2, why: "only this one" }, ok(3, "b"))
    assert.deepStrictEqual((await driven.take()).map(({ _tag }) => _tag), ["Treq"])
    driven.deliver({ _tag: "Rreq", tag: 2, status: 0, body: utf8("a") })
    assert.deepStrictEqual(calls.map((call) => call.text), ["a", "b"])
    driven.send("c")
    assert.deepStrictEqual((await driven.take()).map(({ _tag }) => _tag), ["Tdispatch"])
    driven.deliver(ok(2, ""))
    await driven.finish()
  })

  it("to the first dispatch when that is no longer wanted frees its tag, and no more", async () => {
    const driven = await opened()
    driven.send("hi").interrupt()
    const sent = driven.send("hi")
    await driven.take()
    sent.interrupt()
    await driven.take()
    assert.strictEqual(driven.session.tagsInUse, 1)
    driven.deliver({ _tag: "Rerr", tag: 2, why: "what is a Tdispatch?" })
    assert.strictEqual(driven.session.tagsInUse, 0)
    assert.deepStrictEqual(await driven.take(), [])
    await driven.finish()
  })

  it("has the trace carried in the Treq, its debug flag alone", async () => {
    const driven = await opened({ contexts: new ClientContexts(() => 0.5) })
    const trace = { spanId: 1n, parentId: 2n, traceId: 3n, traceIdHigh: undefined, flags: 7n }
    driven.send("hello", { context: CallContext.empty.with(Trace, trace) })
    await driven.take()
    driven.deliver({ _tag: "Rerr", tag: 2, why: "Unexpected mux message type 2" })
    const [treq] = await driven.take()
    assert.deepStrictEqual(treq, {
      _tag: "Treq",
      tag: 2,
      trace: { spanId: 0x8000000080000000n, parentId: 1n, traceId: 3n, flags: 1 },
      body: utf8("hello")
    })
    driven.deliver({ _tag: "Rreq", tag: 2, status: 0, body: none })
    await driven.finish()
  })
})

describe("requests in fragments", () => {
  it("take turns with one another, and small ones pass between", async () => {
    const driven = await opened({}, framer(10))
    const calls = [driven.send("a".repeat(100)), driven.send("b".repeat(100)), driven.send("c")]
    const hex = (await driven.hex()).join("")
    const tags: Array<number> = []
    for (let at = 0; at < hex.length;) {
      const size = parseInt(hex.slice(at, at + 8), 16)
      assert.isAtMost(size, 14)
      tags.push(parseInt(hex.slice(at + 10, at + 16), 16) & 0x7fffff)
      at += 8 + 2 * size
    }
    assert.deepStrictEqual(tags.slice(0, 7), [2, 3, 4, 2, 3, 2, 3])
    assert.strictEqual(tags.length, 23)
    for (const tag of [2, 3, 4]) driven.deliver(ok(tag, `${tag}`))
    assert.deepStrictEqual(calls.map((call) => call.text), ["2", "3", "4"])
    await driven.finish()
  })

  it("are never Treqs", async () => {
    const driven = await opened({}, framer(10))
    const sent = driven.send("a".repeat(100))
    await driven.take()
    driven.deliver({ _tag: "Rerr", tag: 2, why: "" })
    const [frame] = await driven.hex()
    assert.isTrue(frame!.startsWith("0000006901000002"))
    driven.deliver({ _tag: "Rreq", tag: 2, status: 0, body: none })
    assert.strictEqual(sent.text, "")
    await driven.finish()
  })
})

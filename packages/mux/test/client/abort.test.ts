import { assert, describe, it } from "@effect/vitest"
import type { ConnectionClosed, RpcError } from "@scales-rpc/core"
import type { Message } from "@scales-rpc/mux"
import { Effect } from "effect"
import { utf8 } from "../vectors.ts"
import { type Driven, endpoint, framer, ok, opened, type Sent } from "./scripted.ts"

const pick = (error: RpcError): object => {
  const { _tag, reached, retryable } = error
  return {
    _tag,
    reached,
    retryable,
    ...("endpoint" in error ? { endpoint: error.endpoint } : {}),
    ...("waiting" in error ? { waiting: error.waiting } : {})
  }
}

const discards = (messages: ReadonlyArray<Message.Message>) =>
  messages.filter((message) => message._tag === "Tdiscarded").map(({ which }) => which)

/** A session whose sink has been full since the first of `texts` was written: the others are queued. */
const blocked = async (...texts: ReadonlyArray<string>): Promise<Driven> => {
  const driven = await opened()
  driven.wire.full = true
  driven.send(texts[0]!)
  await driven.take()
  for (const text of texts.slice(1)) driven.send(text)
  assert.deepStrictEqual(await driven.take(), [])
  return driven
}

const unblock = async (driven: Driven): Promise<Array<Message.Message>> => {
  driven.wire.full = false
  driven.session.writable()
  return driven.take()
}

/** Every way in which a call is ended from this side, and what it fails with; interruption has no error. */
const ways: ReadonlyArray<{
  readonly name: string
  readonly end: (driven: Driven, sent: Sent) => void
  readonly tag: string | undefined
  readonly why: string
}> = [
  {
    name: "its deadline",
    end: (driven) => driven.time.advance(300),
    tag: "Timeout",
    why: "no reply within 300 ms"
  },
  {
    name: "another attempt that was faster",
    end: (_, sent) => sent.abort({ _tag: "Superseded" }),
    tag: "Superseded",
    why: "Request was superseded by another in BackupRequestFilter"
  },
  {
    name: "the client's closing",
    end: (_, sent) => sent.abort({ _tag: "StackClosed", stack: "test" }),
    tag: "StackClosed",
    why: "the client is closed"
  },
  {
    name: "its caller",
    end: (_, sent) => sent.interrupt(),
    tag: undefined,
    why: "interrupted by the caller"
  }
]

const ended = (sent: Sent, tag: string | undefined, reached: "no" | "maybe", waiting: "queue" | "reply") => {
  if (tag === undefined) {
    assert.strictEqual(sent.ends, 1)
    assert.isTrue(sent.interrupted)
    return
  }
  assert.deepStrictEqual(pick(sent.error), {
    _tag: tag,
    endpoint,
    reached,
    retryable: false,
    ...(tag === "Timeout" ? { waiting } : {})
  })
}

for (const { end, name, tag, why } of ways) {
  describe(`a call ended by ${name}`, () => {
    it("in the turn in which it was made is never sent", async () => {
      const driven = await opened()
      const sent = driven.send("hi", { timeoutMillis: 300 })
      end(driven, sent)
      ended(sent, tag, "no", "queue")
      assert.strictEqual(driven.session.tagsInUse, 0)
      assert.deepStrictEqual(await driven.take(), [])
      assert.strictEqual(driven.counts.discards, 0)
      await driven.finish()
    })

    it("while the server takes nothing is never sent, and those behind it are", async () => {
      const driven = await blocked("first", "second")
      const third = driven.send("third", { timeoutMillis: 300 })
      driven.send("fourth")
      end(driven, third)
      ended(third, tag, "no", "queue")
      assert.strictEqual(driven.session.tagsInUse, 3)
      const frames = await unblock(driven)
      assert.deepStrictEqual(frames.map((frame) => [frame._tag, frame.tag]), [["Tdispatch", 3], ["Tdispatch", 5]])
      driven.deliver(ok(2, ""), ok(3, ""), ok(5, ""))
      await driven.finish()
    })

    it("once it was sent is discarded, once, and holds its tag until it is answered", async () => {
      const driven = await opened()
      const sent = driven.send("hi", { timeoutMillis: 300 })
      await driven.take()
      end(driven, sent)
      ended(sent, tag, "maybe", "reply")
      assert.strictEqual(driven.session.outstanding, 0)
      assert.deepStrictEqual(await driven.take(), [{ _tag: "Tdiscarded", tag: 0, which: 2, why }])
      // As Finagle's client: the next call takes another tag.
      driven.send("next")
      assert.deepStrictEqual((await driven.take()).map((frame) => frame.tag), [3])
      assert.strictEqual(driven.session.tagsInUse, 2)
      driven.deliver({ _tag: "Rdiscarded", tag: 2 })
      assert.strictEqual(driven.session.tagsInUse, 1)
      driven.send("after")
      assert.deepStrictEqual((await driven.take()).map((frame) => frame.tag), [2])
      assert.strictEqual(driven.counts.discards, 1)
      driven.deliver(ok(2, ""), ok(3, ""))
      await driven.finish()
    })

    it("while its fragments leave was never executed, and the rest of them stays here", async () => {
      const driven = await opened({}, framer(50_000))
      driven.wire.full = true
      const sent = driven.send(new Uint8Array(1_000_000), { timeoutMillis: 300 })
      driven.send("small")
      const writes = await driven.hex()
      assert.isTrue(writes[0]!.startsWith("0000c35402800002"))
      end(driven, sent)
      ended(sent, tag, "no", "queue")
      driven.wire.full = false
      driven.session.writable()
      const rest = (await driven.hex()).join("")
      assert.isTrue(rest.includes("c2000000000002"), "discarded")
      assert.isBelow(rest.length, 1000, "nothing more of it")
      assert.isFalse(rest.includes("02000002"), "not its last fragment")
      assert.strictEqual(driven.session.tagsInUse, 2)
      driven.deliver({ _tag: "Rdiscarded", tag: 2 }, ok(3, ""))
      assert.strictEqual(driven.session.tagsInUse, 0)
      await driven.finish()
    })
  })
}

describe("a tag that is held", () => {
  it("is free again with any answer for it", async () => {
    const answers: ReadonlyArray<Message.Message> = [
      ok(2, "too late"),
      { _tag: "Rdispatch", tag: 2, status: 1, contexts: [], body: utf8("too late") },
      { _tag: "Rdispatch", tag: 2, status: 2, contexts: [], body: utf8("") },
      { _tag: "Rreq", tag: 2, status: 0, body: utf8("") },
      { _tag: "Rerr", tag: 2, why: "too late" },
      { _tag: "Rdiscarded", tag: 2 },
      { _tag: "Rdrain", tag: 2 },
      { _tag: "Rinit", tag: 2, version: 1, headers: [] }
    ]
    for (const answer of answers) {
      const driven = await opened()
      const sent = driven.send("hi")
      await driven.take()
      sent.interrupt()
      assert.deepStrictEqual(discards(await driven.take()), [2])
      assert.strictEqual(driven.session.tagsInUse, 1)
      driven.deliver(answer)
      assert.strictEqual(driven.session.tagsInUse, 0, answer._tag)
      assert.strictEqual(sent.ends, 1)
      await driven.finish()
    }
  })

  it("stays so for as long as there is no answer", async () => {
    const driven = await opened({ maxTag: 3, pingIntervalMillis: 1e9 })
    const sent = driven.send("hi")
    await driven.take()
    sent.interrupt()
    driven.time.advance(1e9)
    driven.deliver({ _tag: "Rping", tag: 2 }, { _tag: "Tping", tag: 2 })
    assert.strictEqual(driven.session.tagsInUse, 1)
    driven.send("hi")
    assert.strictEqual(driven.send("hi").error._tag, "Nacked")
    await driven.take()
    driven.deliver(ok(3, ""))
    await driven.finish()
  })
})

describe("a tag that is held for a request cut short", () => {
  /** A session with such a tag, which is 2: the discard is read. */
  const cut = async (): Promise<Driven> => {
    const driven = await opened({}, framer(50_000))
    driven.time.advance(4000)
    driven.wire.full = true
    const sent = driven.send(new Uint8Array(1_000_000))
    await driven.take()
    sent.interrupt()
    driven.wire.full = false
    driven.session.writable()
    assert.deepStrictEqual(discards(await driven.take()), [2])
    assert.strictEqual(driven.session.tagsInUse, 1)
    return driven
  }

  it("is free again with the answer to the next ping: a server that has no request need not answer its discard", async () => {
    const driven = await cut()
    driven.time.advance(1000)
    assert.strictEqual(driven.session.tagsInUse, 1)
    driven.deliver({ _tag: "Rping", tag: 1 })
    assert.strictEqual(driven.session.tagsInUse, 0)
    driven.unanswered.clear()
    driven.send("next")
    assert.deepStrictEqual((await driven.take()).filter(({ _tag }) => _tag === "Tdispatch").map(({ tag }) => tag), [2])
    driven.deliver(ok(2, ""))
    await driven.finish()
  })

  it("is not freed by the answer to a ping that was sent before the discard", async () => {
    const driven = await opened({}, framer(50_000))
    driven.time.advance(5000)
    driven.wire.full = true
    const sent = driven.send(new Uint8Array(1_000_000))
    await driven.take()
    sent.interrupt()
    driven.deliver({ _tag: "Rping", tag: 1 })
    assert.strictEqual(driven.session.tagsInUse, 1)
    driven.wire.full = false
    driven.session.writable()
    await driven.take()
    driven.time.advance(5000)
    driven.deliver({ _tag: "Rping", tag: 1 })
    assert.strictEqual(driven.session.tagsInUse, 0)
    driven.unanswered.clear()
    await driven.finish()
  })

  it("is free again with the server's answer, and the ping then leaves its next call alone", async () => {
    const driven = await cut()
    driven.deliver({ _tag: "Rdiscarded", tag: 2 })
    const sent = driven.send("next")
    await driven.take()
    driven.time.advance(1000)
    driven.deliver({ _tag: "Rping", tag: 1 })
    assert.strictEqual(driven.session.tagsInUse, 1)
    driven.deliver(ok(2, "mine"))
    assert.strictEqual(sent.text, "mine")
    await driven.finish()
  })

  it("is held again when the next call is cut short as well", async () => {
    const driven = await cut()
    driven.time.advance(1000)
    await driven.take()
    driven.deliver({ _tag: "Rdiscarded", tag: 2 })
    driven.wire.full = true
    const sent = driven.send(new Uint8Array(1_000_000))
    await driven.take()
    sent.interrupt()
    driven.deliver({ _tag: "Rping", tag: 1 })
    assert.strictEqual(driven.session.tagsInUse, 1)
    driven.wire.full = false
    driven.session.writable()
    await driven.finish()
  })
})

describe("a reply that meets an abort", () => {
  it("in the same turn wins when it comes first", async () => {
    const driven = await opened()
    const sent = driven.send("hi", { timeoutMillis: 300 })
    await driven.take()
    driven.deliver(ok(2, "ho"))
    driven.time.advance(300)
    sent.interrupt()
    assert.strictEqual(sent.text, "ho")
    assert.deepStrictEqual(await driven.take(), [])
    await driven.finish()
  })

  it("is let go when it comes second", async () => {
    const driven = await opened()
    const sent = driven.send("hi", { timeoutMillis: 300 })
    await driven.take()
    driven.time.advance(300)
    driven.deliver(ok(2, "ho"))
    assert.strictEqual(sent.error._tag, "Timeout")
    assert.strictEqual(driven.session.tagsInUse, 0)
    // The discard has crossed the reply: there is nothing left to answer.
    assert.deepStrictEqual(discards(await driven.take()), [2])
    driven.unanswered.clear()
    await driven.finish()
  })

  it("before its request has left in full is the answer, and has the server forget the fragments", async () => {
    const driven = await opened({}, framer(50_000))
    driven.wire.full = true
    const sent = driven.send(new Uint8Array(1_000_000))
    await driven.take()
    driven.deliver({ _tag: "Rdispatch", tag: 2, status: 2, contexts: [], body: utf8("too long") })
    assert.strictEqual(sent.error._tag, "Nacked")
    // Until the server has answered the discard, no other request may follow its fragments with this tag.
    driven.send("next")
    const rest = await unblockHex(driven)
    assert.isTrue(rest.includes("c2000000000002"))
    assert.isTrue(rest.includes("0000000e02000003"), "the next call has another tag")
    assert.isBelow(rest.length, 1000)
    driven.deliver(ok(3, ""))
    assert.strictEqual(driven.session.tagsInUse, 1)
    await driven.finish()
  })
})

const unblockHex = async (driven: Driven): Promise<string> => {
  driven.wire.full = false
  driven.session.writable()
  return (await driven.hex()).join("")
}

describe("a call that was aborted before", () => {
  it("is not sent, and fails with the reason", async () => {
    const driven = await opened()
    const earlier = driven.send("hi", { timeoutMillis: 300 })
    await driven.take()
    driven.time.advance(300)
    assert.deepStrictEqual(discards(await driven.take()), [2])
    const error = Effect.runSync(Effect.flip(driven.session.send({ body: utf8("again") }, earlier.attempt)))
    assert.deepStrictEqual(pick(error), {
      _tag: "Timeout",
      endpoint,
      reached: "no",
      retryable: false,
      waiting: "queue"
    })
    assert.deepStrictEqual(await driven.take(), [])
    await driven.finish()
  })
})

describe("the end of a session", () => {
  it("fails each call once, and says whether it can have reached the server", async () => {
    const driven = await blocked("written", "queued")
    const reset = new Error("read ECONNRESET")
    driven.session.connectionLost(reset)
    const [written, queued] = driven.sent
    assert.deepStrictEqual(pick(written!.error), {
      _tag: "ConnectionClosed",
      endpoint,
      reached: "maybe",
      retryable: false
    })
    assert.deepStrictEqual(pick(queued!.error), { _tag: "ConnectionClosed", endpoint, reached: "no", retryable: true })
    assert.strictEqual((queued!.error as ConnectionClosed).cause, reset)
    assert.deepInclude(driven.session.status.fault, { _tag: "ConnectionClosed", cause: reset })
    await driven.finish()
  })

  it("knows that a request of which fragments are missing was not executed", async () => {
    const driven = await opened({}, framer(50_000))
    driven.wire.full = true
    const sent = driven.send(new Uint8Array(1_000_000))
    await driven.hex()
    driven.session.connectionLost("gone")
    assert.deepInclude(pick(sent.error), { reached: "no", retryable: true })
    await driven.finish()
  })

  it("from this side fails its calls, and is no fault of the endpoint", async () => {
    const driven = await opened()
    const sent = driven.send("hi")
    await driven.take()
    driven.session.close("the connection was closed by the client")
    assert.deepStrictEqual(pick(sent.error), { _tag: "ConnectionClosed", endpoint, reached: "maybe", retryable: false })
    assert.isUndefined(driven.session.status.fault)
    await driven.finish()
  })

  it("is told before its calls fail, so that they are not sent here again", async () => {
    const driven = await opened()
    const seen: Array<string> = []
    driven.session.status.subscribe(() => {
      seen.push(`${driven.session.status.state}, ${driven.sent[0]!.ends} ended, ${driven.ended} closed`)
    })
    driven.send("hi")
    await driven.take()
    driven.session.connectionLost("gone")
    assert.deepStrictEqual(seen, ["Closed, 0 ended, 0 closed"])
    assert.deepInclude(pick(driven.send("late").error), { _tag: "ConnectionClosed", reached: "no", retryable: true })
    await driven.finish()
  })

  it("leaves the abort that its listeners make of a call alone", async () => {
    const driven = await opened()
    const sent = driven.send("hi")
    await driven.take()
    driven.session.status.subscribe(() => sent.abort({ _tag: "Superseded" }))
    driven.session.connectionLost("gone")
    assert.strictEqual(sent.error._tag, "Superseded")
    await driven.finish()
  })

  it("comes once, however often it is asked for", async () => {
    const driven = await opened()
    driven.session.connectionLost("gone")
    driven.session.connectionLost("gone again")
    driven.session.close("closed")
    driven.deliver({ _tag: "Tdrain", tag: 1 }, { _tag: "Tping", tag: 1 }, ok(2, ""))
    driven.time.advance(60_000)
    assert.deepStrictEqual(driven.states, ["Open", "Closed"])
    assert.deepStrictEqual(await driven.take(), [])
    await driven.finish()
  })
})

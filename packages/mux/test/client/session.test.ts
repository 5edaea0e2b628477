import { assert, describe, it } from "@effect/vitest"
import type { RpcError } from "@scales-rpc/core"
import { Message } from "@scales-rpc/mux"
import { toHex, utf8 } from "../vectors.ts"
import { type Driven, endpoint, framer, ok, opened } from "./scripted.ts"

const tping: Message.Message = { _tag: "Tping", tag: 1 }
const rping: Message.Message = { _tag: "Rping", tag: 1 }
const tdrain: Message.Message = { _tag: "Tdrain", tag: 1 }
const rdrain: Message.Message = { _tag: "Rdrain", tag: 1 }
const lease = (millis: number | bigint): Message.Message => ({
  _tag: "Tlease",
  tag: 0,
  unit: 0,
  howMuch: BigInt(millis)
})

const state = (driven: Driven) => driven.session.status.state

describe("pings", () => {
  it("go out every 5 seconds, whatever the answers take", async () => {
    const driven = await opened()
    let sinceAnswer = 0
    for (const answered of [0, 1234, 3999]) {
      driven.time.advance(4999 - sinceAnswer)
      assert.deepStrictEqual(await driven.take(), [])
      driven.time.advance(1)
      assert.deepStrictEqual(await driven.take(), [tping])
      driven.time.advance(answered)
      driven.deliver(rping)
      sinceAnswer = answered
    }
    assert.strictEqual(driven.counts.pings, 4)
    await driven.finish()
  })

  it("may be answered with any tag", async () => {
    const driven = await opened()
    driven.time.advance(5000)
    driven.deliver({ _tag: "Rping", tag: 77 })
    driven.time.advance(4999)
    assert.strictEqual(state(driven), "Open")
    await driven.finish()
  })

  it("end the session when one is not answered in 4 seconds", async () => {
    const driven = await opened()
    driven.time.advance(5000)
    const sent = driven.send("hi")
    await driven.take()
    driven.time.advance(3999)
    assert.strictEqual(state(driven), "Open")
    driven.time.advance(1)
    assert.strictEqual(state(driven), "Closed")
    for (const error of [sent.error, driven.session.status.fault!]) {
      assert.deepInclude(error, { _tag: "ConnectionClosed", endpoint, reached: "maybe", retryable: false } as never)
      assert.include(error.message, "no answer to a ping within 4000 ms")
    }
    assert.strictEqual(driven.counts.pingTimeouts, 1)
    await driven.finish()
  })

  it("are not answered by other messages", async () => {
    const driven = await opened()
    driven.time.advance(5000)
    driven.send("hi")
    await driven.take()
    driven.time.advance(2000)
    driven.deliver(ok(2, ""), tping, { _tag: "Rerr", tag: 1, why: "Unexpected mux message type 65" })
    driven.time.advance(2000)
    assert.strictEqual(state(driven), "Closed")
    await driven.finish()
  })

  it("that nobody sent may be answered all the same", async () => {
    const driven = await opened()
    driven.time.advance(3000)
    driven.deliver(rping, rping)
    driven.time.advance(1999)
    assert.deepStrictEqual(await driven.take(), [])
    driven.time.advance(1)
    assert.deepStrictEqual(await driven.take(), [tping])
    driven.deliver(rping, rping)
    await driven.finish()
  })

  it("of the server are answered at once, with their tag", async () => {
    const driven = await opened()
    driven.deliver(tping, { _tag: "Tping", tag: 9 }, { _tag: "Tping", tag: 8_388_607 })
    assert.deepStrictEqual(await driven.hex(), ["00000004bf00000100000004bf00000900000004bf7fffff"])
    await driven.finish()
  })

  it("of a server that reads no answers end its session before they fill the memory", async () => {
    const driven = await opened()
    driven.wire.full = true
    driven.send("hi")
    await driven.take()
    for (let i = 0; i < 1000; i++) driven.deliver(tping)
    assert.strictEqual(state(driven), "Open")
    driven.deliver(tping)
    assert.strictEqual(driven.session.status.fault?._tag, "ProtocolError")
    await driven.finish()
  })

  it("of a server that reads may be any number", async () => {
    const driven = await opened()
    driven.wire.full = true
    driven.send("hi")
    await driven.take()
    for (let i = 0; i < 5000; i++) {
      driven.deliver(tping)
      if (i % 900 !== 0) continue
      driven.session.writable()
      await driven.take()
    }
    assert.strictEqual(state(driven), "Open")
    driven.deliver(ok(2, ""))
    await driven.finish()
  })
})

describe("a drain", () => {
  it("with nothing outstanding is answered, and ends the session without a fault", async () => {
    const driven = await opened()
    driven.deliver("0000000440000001")
    assert.deepStrictEqual(driven.states, ["Open", "Busy", "Closed"])
    assert.isUndefined(driven.session.status.fault)
    assert.deepStrictEqual(await driven.hex(), ["00000004c0000001"])
    assert.strictEqual(driven.counts.drains, 1)
    await driven.finish()
  })

  it("is answered before the connection is closed", async () => {
    const wire: Array<string> = []
    let closedAfter = -1
    const driven: Driven = await opened({
      sink: {
        write: (chunk) => {
          wire.push(toHex(chunk))
          return true
        }
      },
      onEnd: () => {
        driven.ended++
        closedAfter = wire.length
      }
    })
    wire.length = 0
    driven.deliver(tdrain)
    assert.deepStrictEqual(wire, ["00000004c0000001"])
    assert.strictEqual(closedAfter, 1)
    await driven.finish()
  })

  it("lets outstanding calls end", async () => {
    const driven = await opened()
    const calls = [driven.send("a"), driven.send("b")]
    await driven.take()
    driven.deliver({ _tag: "Tdrain", tag: 5 })
    assert.deepStrictEqual(await driven.take(), [{ _tag: "Rdrain", tag: 5 }])
    assert.deepInclude(driven.session.status.fault, { _tag: "Nacked", retryable: true })
    assert.strictEqual(state(driven), "Busy")
    driven.deliver(ok(3, "b"))
    assert.strictEqual(state(driven), "Busy")
    driven.deliver(ok(2, "a"))
    assert.deepStrictEqual(calls.map((call) => call.text), ["a", "b"])
    assert.deepStrictEqual(driven.states, ["Open", "Busy", "Closed"])
    assert.isUndefined(driven.session.status.fault)
    await driven.finish()
  })

  it("has further calls refused, retryable, and nothing of them written", async () => {
    const driven = await opened()
    driven.send("a")
    await driven.take()
    driven.deliver(tdrain)
    await driven.take()
    const refused: RpcError = driven.send("b").error
    assert.deepInclude(refused, { _tag: "Nacked", endpoint, reached: "no", retryable: true })
    assert.deepStrictEqual(await driven.take(), [])
    driven.deliver(ok(2, ""))
    assert.deepInclude(driven.send("c").error, { _tag: "ConnectionClosed", reached: "no", retryable: true })
    await driven.finish()
  })

  it("lets calls that were queued in its turn go", async () => {
    const driven = await opened()
    const sent = driven.send("a")
    driven.deliver(tdrain)
    assert.deepStrictEqual((await driven.take()).map(({ _tag }) => _tag), ["Tdispatch", "Rdrain"])
    driven.deliver(ok(2, "a"))
    assert.strictEqual(sent.text, "a")
    await driven.finish()
  })

  it("that comes again is answered again", async () => {
    const driven = await opened()
    driven.send("a")
    await driven.take()
    driven.deliver(tdrain, tdrain, { _tag: "Tdrain", tag: 3 })
    assert.deepStrictEqual(await driven.take(), [rdrain, rdrain, { _tag: "Rdrain", tag: 3 }])
    assert.strictEqual(driven.counts.drains, 1)
    driven.deliver(ok(2, ""))
    await driven.finish()
  })

  it("leaves pings going, both ways", async () => {
    const driven = await opened()
    driven.send("a")
    await driven.take()
    driven.deliver(tdrain, { _tag: "Tping", tag: 4 })
    assert.deepStrictEqual(await driven.take(), [rdrain, { _tag: "Rping", tag: 4 }])
    driven.time.advance(5000)
    assert.deepStrictEqual(await driven.take(), [tping])
    driven.time.advance(4000)
    assert.strictEqual(state(driven), "Closed")
    assert.include(driven.sent[0]!.error.message, "ping")
    await driven.finish()
  })

  it("is over when the last call is given up, and the discard leaves with the answer", async () => {
    const driven = await opened()
    const sent = driven.send("a")
    await driven.take()
    driven.deliver(tdrain)
    sent.interrupt()
    assert.strictEqual(state(driven), "Closed")
    assert.deepStrictEqual((await driven.take()).map(({ _tag }) => _tag), ["Rdrain", "Tdiscarded"])
    await driven.finish()
  })

  it("does not wait for the answers to discards", async () => {
    const driven = await opened()
    driven.send("a").interrupt()
    const sent = driven.send("b")
    await driven.take()
    sent.interrupt()
    await driven.take()
    driven.deliver(tdrain)
    assert.strictEqual(state(driven), "Closed")
    await driven.finish()
  })

  it("that the server cuts short is no fault of the endpoint", async () => {
    const driven = await opened()
    const sent = driven.send("a")
    await driven.take()
    driven.deliver(tdrain)
    driven.session.connectionLost("FIN")
    assert.deepInclude(sent.error, { _tag: "ConnectionClosed", reached: "maybe" })
    assert.isUndefined(driven.session.status.fault)
    await driven.finish()
  })

  it("is answered before the session ends, also when the server is slow to read", async () => {
    const driven = await opened()
    driven.wire.full = true
    const sent = driven.send("a")
    await driven.take()
    driven.deliver(tdrain, ok(2, "a"))
    assert.strictEqual(sent.text, "a")
    assert.deepStrictEqual(await driven.take(), [])
    assert.strictEqual(state(driven), "Busy")
    driven.wire.full = false
    driven.session.writable()
    assert.deepStrictEqual(await driven.take(), [rdrain])
    assert.strictEqual(state(driven), "Closed")
    await driven.finish()
  })

  it("is cut short by a ping when the server never reads its answer", async () => {
    const driven = await opened()
    driven.wire.full = true
    driven.send("a")
    await driven.take()
    driven.deliver(tdrain, ok(2, "a"))
    driven.time.advance(9000)
    assert.strictEqual(state(driven), "Closed")
    await driven.finish()
  })
})

describe("a lease", () => {
  it("that is over makes the session Busy, and calls still go", async () => {
    const driven = await opened()
    driven.deliver("0000000d430000000000000000000003e8")
    driven.time.advance(999)
    assert.strictEqual(state(driven), "Open")
    driven.time.advance(1)
    assert.strictEqual(state(driven), "Busy")
    assert.isUndefined(driven.session.status.fault)
    const sent = driven.send("hi")
    await driven.take()
    driven.deliver(ok(2, "ho"))
    assert.strictEqual(sent.text, "ho")
    await driven.finish()
  })

  it("of 0 is over at once", async () => {
    const driven = await opened()
    driven.deliver("0000000d43000000000000000000000000")
    assert.deepStrictEqual(driven.states, ["Open", "Busy"])
    await driven.finish()
  })

  it("below 0 is over at once", async () => {
    const driven = await opened()
    driven.deliver(lease(-5))
    assert.strictEqual(state(driven), "Busy")
    await driven.finish()
  })

  it("that is renewed counts from then, and opens the session again", async () => {
    const driven = await opened({ pingIntervalMillis: 1e9 })
    driven.deliver(lease(1000))
    driven.time.advance(900)
    driven.deliver(lease(1000))
    driven.time.advance(999)
    assert.strictEqual(state(driven), "Open")
    driven.time.advance(1)
    assert.strictEqual(state(driven), "Busy")
    driven.deliver(lease(10))
    assert.strictEqual(state(driven), "Open")
    driven.time.advance(10)
    assert.deepStrictEqual(driven.states, ["Open", "Busy", "Open", "Busy"])
    assert.strictEqual(driven.counts.leases, 3)
    await driven.finish()
  })

  it("that is cut to 0 is over at once", async () => {
    const driven = await opened()
    driven.deliver(lease(1000), lease(0))
    assert.strictEqual(state(driven), "Busy")
    driven.time.advance(2000)
    assert.deepStrictEqual(driven.states, ["Open", "Busy"])
    await driven.finish()
  })

  it("of the longest time, and of more, does not end by itself", async () => {
    for (const howMuch of ["00000000ffffffff", "7fffffffffffffff"]) {
      const driven = await opened({ pingIntervalMillis: 1e12 })
      driven.deliver(`0000000d4300000000${howMuch}`)
      driven.time.advance(0xfffffffe)
      assert.strictEqual(state(driven), "Open")
      await driven.finish()
    }
  })

  it("is of no interest while the session drains", async () => {
    const driven = await opened()
    driven.send("hi")
    await driven.take()
    driven.deliver(lease(1000), tdrain, lease(100_000), lease(0))
    assert.strictEqual(driven.counts.leases, 1)
    driven.time.advance(2000)
    assert.deepStrictEqual(driven.states, ["Open", "Busy"])
    assert.strictEqual(driven.session.status.fault?._tag, "Nacked")
    driven.deliver(ok(2, ""))
    assert.strictEqual(state(driven), "Closed")
    await driven.finish()
  })
})

describe("timers that are due at one time", () => {
  it("do not ping for a session that the first of them has ended", async () => {
    const driven = await opened()
    driven.time.advance(5000)
    driven.send("hi", { timeoutMillis: 5000 })
    driven.deliver(tdrain, rping)
    await driven.take()
    driven.time.advance(5000)
    assert.strictEqual(driven.sent[0]!.error._tag, "Timeout")
    assert.strictEqual(state(driven), "Closed")
    assert.strictEqual(driven.counts.pings, 2)
    await driven.finish()
  })

  it("do not end the lease of a session that the first of them has ended", async () => {
    const driven = await opened()
    driven.time.advance(5000)
    driven.deliver(lease(4000))
    driven.time.advance(4000)
    assert.deepStrictEqual(driven.states, ["Open", "Closed"])
    assert.strictEqual(driven.session.status.fault?._tag, "ConnectionClosed")
    await driven.finish()
  })
})

describe("what no server may send", () => {
  const request: Message.Tdispatch = {
    _tag: "Tdispatch",
    tag: 2,
    contexts: [],
    destination: "",
    dtab: [],
    body: utf8("")
  }
  const bad: ReadonlyArray<readonly [what: string, frame: string | Message.Message]> = [
    ["Tlease with unit 1", { _tag: "Tlease", tag: 0, unit: 1, howMuch: 1000n }],
    ["sent a Tinit", { _tag: "Tinit", tag: 1, version: 1, headers: [] }],
    ["sent a Treq", { _tag: "Treq", tag: 2, trace: undefined, body: utf8("") }],
    ["sent a Tdispatch", request],
    ["unknown message type: 3", "0000000403000002"],
    ["unknown message type: 0", "0000000400000001"],
    ["short message", "00000003fe0000"],
    ["short message", "00000000"],
    ["frame of 2147483647 bytes", "7fffffff"],
    ["frame of 4294967295 bytes", "ffffffff"],
    ["invalid Rdispatch status 3", "00000007fe000002030000"],
    ["invalid Rreq status 3", "00000005ff00000203"],
    ["context", "00000009fe000002000001ffff"],
    ["context key", "0000000afe0000020000010005ff"],
    ["Rping", "00000005bf00000100"],
    ["fragment of a message of type -1", "00000005ff80000200"],
    ["short Tlease", "000000084300000000000000"],
    ["frame of", toHex(Buffer.from("HTTP/1.1 400 Bad Request"))]
  ]

  for (const [what, frame] of bad) {
    it(`ends the session, and its calls with what it was: ${what}`, async () => {
      const driven = await opened()
      const calls = [driven.send("a"), driven.send("b"), driven.send("c")]
      await driven.take()
      const queued = driven.send("not sent yet")
      driven.deliver(ok(3, "in time"), frame)
      assert.strictEqual(state(driven), "Closed")
      const fault = driven.session.status.fault
      assert.deepInclude(fault, { _tag: "ProtocolError", endpoint, reached: "maybe", retryable: false } as never)
      assert.include(fault!.message, what)
      assert.strictEqual(calls[0]!.error, fault)
      assert.strictEqual(calls[1]!.text, "in time")
      assert.strictEqual(calls[2]!.error, fault)
      assert.deepInclude(queued.error, { _tag: "ConnectionClosed", reached: "no", retryable: true } as never)
      assert.deepStrictEqual(await driven.take(), [])
      await driven.finish()
    })
  }

  it("includes a reply over the limit, in one frame or in fragments", async () => {
    const limits = { ...Message.defaultLimits, messageBytes: 100 }
    const whole = await opened({ limits })
    whole.send("hi")
    await whole.take()
    whole.deliver(ok(2, "x".repeat(98)))
    assert.include(whole.sent[0]!.error.message, "at most 104")
    await whole.finish()

    const fragments = await opened({ limits })
    fragments.send("hi")
    await fragments.take()
    const fragment = `00000036fe800002${"00".repeat(50)}`
    fragments.deliver(fragment, fragment)
    assert.strictEqual(fragments.sent[0]!.ends, 0)
    fragments.deliver("00000005fe80000200")
    assert.strictEqual(fragments.sent[0]!.error._tag, "ProtocolError")
    await fragments.finish()
  })

  it("includes fragments of more replies, and more bytes of them, than are kept", async () => {
    const limits = { ...Message.defaultLimits, reassemblies: 3, reassemblyBytes: 1000 }
    const many = await opened({ limits })
    for (let tag = 2; tag < 5; tag++) many.deliver(`00000005fe80000${tag}00`)
    assert.strictEqual(state(many), "Open")
    many.deliver("00000005fe80000500")
    assert.strictEqual(many.session.status.fault?._tag, "ProtocolError")
    await many.finish()

    const large = await opened({ limits })
    large.deliver(`000003ecfe800002${"00".repeat(1000)}`)
    assert.strictEqual(state(large), "Open")
    large.deliver("00000005fe80000300")
    assert.strictEqual(large.session.status.fault?._tag, "ProtocolError")
    await large.finish()
  })

  it("is found before room is made for it", async () => {
    const driven = await opened()
    const before = process.memoryUsage().arrayBuffers
    // As large as is allowed: it gets room as it comes, not as it is announced.
    const header = Buffer.alloc(8)
    header.writeUInt32BE(Message.defaultLimits.messageBytes + 4)
    header.writeUInt32BE(0xfe000002, 4)
    driven.session.receive(header)
    driven.session.receive(Buffer.alloc(1000))
    assert.isBelow(process.memoryUsage().arrayBuffers - before, 1024 * 1024)
    assert.strictEqual(state(driven), "Open")
    await driven.finish()
  })

  it("does not include what servers may send for nothing", async () => {
    const driven = await opened()
    driven.deliver(
      rdrain,
      { _tag: "Rinit", tag: 1, version: 1, headers: [] },
      { _tag: "Tdiscarded", tag: 0, which: 2, why: "confused" },
      "0000000e4200000000000274696d656f7574",
      { _tag: "Rdiscarded", tag: 0 },
      { _tag: "Rerr", tag: 1, why: "Unexpected mux message type -65" }
    )
    assert.deepStrictEqual(driven.states, ["Open"])
    assert.deepStrictEqual(await driven.take(), [])
    await driven.finish()
  })
})

describe("a server that does not read", () => {
  it("is written no more than what it was given when it said so, until it reads", async () => {
    const driven = await opened()
    driven.wire.full = true
    for (let i = 0; i < 3; i++) driven.send(`first ${i}`)
    assert.strictEqual((await driven.take()).length, 3)
    const queued = Array.from({ length: 100 }, (_, i) => driven.send(`queued ${i}`, { timeoutMillis: 1000 + i }))
    driven.deliver(tping)
    assert.deepStrictEqual(await driven.take(), [])
    for (let i = 0; i < 50; i++) queued[2 * i]!.interrupt()
    assert.strictEqual(driven.session.tagsInUse, 53)
    driven.wire.full = false
    driven.session.writable()
    const frames = await driven.take()
    const dispatches = frames.filter((frame) => frame._tag === "Tdispatch")
    assert.deepStrictEqual(
      dispatches.map(({ body }) => Buffer.from(body).toString()),
      Array.from({ length: 50 }, (_, i) => `queued ${2 * i + 1}`)
    )
    assert.deepStrictEqual(frames.slice(50), [{ _tag: "Rping", tag: 1 }])
    for (const { tag } of dispatches) driven.deliver(ok(tag, ""))
    driven.deliver(ok(2, ""), ok(3, ""), ok(4, ""))
    assert.strictEqual(driven.session.tagsInUse, 0)
    await driven.finish()
  })

  it("is written 128 KiB, and one large payload, at a time", async () => {
    const driven = await opened()
    driven.wire.full = true
    for (let i = 0; i < 1000; i++) driven.send(new Uint8Array(1000))
    driven.send(new Uint8Array(5_000_000))
    for (let left = 1001; left > 0;) {
      const writes = driven.wire.chunks.length
      driven.session.writable()
      const bytes = driven.wire.chunks.slice(writes).reduce((sum, chunk) => sum + chunk.length, 0)
      assert.isAtMost(bytes > 5_000_000 ? bytes - 5_000_000 : bytes, 128 * 1024)
      left -= driven.read().length
    }
    for (let tag = 2; tag <= 1002; tag++) driven.deliver(ok(tag, ""))
    await driven.finish()
  })

  it("has its calls end at their deadlines, and their tags with them", async () => {
    const driven = await opened({ pingIntervalMillis: 1e9 })
    driven.wire.full = true
    driven.send("written", { timeoutMillis: 100 })
    await driven.take()
    const queued = Array.from({ length: 100 }, () => driven.send(new Uint8Array(10_000), { timeoutMillis: 100 }))
    driven.time.advance(100)
    for (const sent of queued) {
      assert.deepInclude(sent.error, { _tag: "Timeout", waiting: "queue", reached: "no" } as never)
    }
    assert.strictEqual(driven.session.tagsInUse, 1)
    driven.wire.full = false
    driven.session.writable()
    assert.deepStrictEqual((await driven.take()).map(({ _tag }) => _tag), ["Tdiscarded"])
    await driven.finish()
  })

  it("takes fragments in turns again when it reads on", async () => {
    const driven = await opened({}, framer(1000))
    driven.wire.full = true
    for (const letter of ["a", "b", "c"]) driven.send(letter.repeat(300_000))
    const runs: Array<number> = []
    let last = -1
    while (driven.session.outstanding > 0) {
      driven.session.writable()
      for (const chunk of driven.wire.chunks) {
        for (let at = 0; at < chunk.length; at += 4 + Buffer.from(chunk).readUInt32BE(at)) {
          const tag = Buffer.from(chunk).readUIntBE(at + 5, 3) & Message.maxTag
          if (tag === last) runs[runs.length - 1]!++
          else runs.push(1)
          last = tag
        }
      }
      for (const message of driven.read()) driven.deliver(ok(message.tag, "done"))
    }
    const single = runs.filter((run) => run === 1).length
    assert.isAtLeast(single / runs.length, 0.95)
    assert.isAbove(runs.length, 880)
    await driven.finish()
  })
})

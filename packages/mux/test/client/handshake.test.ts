import { assert, describe, it } from "@effect/vitest"
import type { ConnectFailed } from "@scales-rpc/core"
import type { Message } from "@scales-rpc/mux"
import { fragments, utf8 } from "../vectors.ts"
import { Driven, endpoint, framer, ok, opened } from "./scripted.ts"

const probe = "0000000f7f00000174696e697420636865636b"
const probe128 = "0000000f8000000174696e697420636865636b"
const tinit = "0000002a4400000100010000000a6d75782d6672616d6572000000047fffffff00000003746c73000000036f6666"
const rinit = "0000002abc00000100010000000a6d75782d6672616d6572000000047fffffff00000003746c73000000036f6666"
const rinit5 = "0000002abc00000100010000000a6d75782d6672616d6572000000040000000500000003746c73000000036f6666"
const tping = "0000000441000001"
const rping = "00000004bf000001"

const begun = (options?: ConstructorParameters<typeof Driven>[0]): Driven => {
  const driven = new Driven(options)
  driven.session.start()
  return driven
}

/** A session that waits for the answer to its Tinit. */
const initializing = async (): Promise<Driven> => {
  const driven = begun()
  driven.deliver(probe)
  await driven.take()
  return driven
}

/** Why the handshake failed; fails the test when it did not, or not as it should. */
const handshakeFault = (driven: Driven, phase: "handshake" | "tls" = "handshake"): ConnectFailed => {
  assert.strictEqual(driven.ready.length, 1)
  const fault = driven.ready[0]
  if (fault?._tag !== "ConnectFailed") throw new Error(`expected ConnectFailed, got ${fault?._tag}`)
  assert.strictEqual(fault.phase, phase)
  assert.strictEqual(fault.endpoint, endpoint)
  assert.isTrue(fault.retryable)
  assert.strictEqual(driven.session.status.fault, fault)
  assert.deepStrictEqual(driven.states, ["Closed"])
  return fault
}

describe("the handshake", () => {
  it("is Finagle's to the byte: probe, Tinit, and then the first ping", async () => {
    const driven = begun()
    assert.deepStrictEqual(await driven.hex(), [probe])
    driven.deliver(probe)
    assert.deepStrictEqual(await driven.hex(), [tinit])
    assert.deepStrictEqual(driven.ready, [])
    assert.strictEqual(driven.session.status.state, "Idle")
    driven.deliver(rinit)
    assert.deepStrictEqual(driven.ready, [undefined])
    assert.deepStrictEqual(driven.states, ["Open"])
    assert.deepStrictEqual(await driven.hex(), [tping])
    driven.deliver(rping)
    await driven.finish()
  })

  it("puts the ping in front of a call that is sent the moment the session is ready", async () => {
    const driven: Driven = new Driven({ onReady: () => void driven.send("hi") })
    driven.session.start()
    driven.deliver(probe, rinit)
    const frames = await driven.take()
    assert.deepStrictEqual(frames.map((frame) => frame._tag), ["Rerr", "Tinit", "Tping", "Tdispatch"])
    driven.deliver(ok(2, "ho"))
    assert.strictEqual(driven.sent[0]!.text, "ho")
    await driven.finish()
  })

  it("takes the probe's echo in its other spelling", async () => {
    const driven = begun()
    driven.deliver(probe128)
    assert.deepStrictEqual((await driven.take()).map((frame) => frame._tag), ["Rerr", "Tinit"])
    await driven.finish()
  })

  it("reads the answers whatever chunks they come in", async () => {
    const driven = begun()
    for (const byte of Buffer.from(probe + rinit, "hex")) driven.session.receive(Uint8Array.of(byte))
    assert.deepStrictEqual(driven.ready, [undefined])
    await driven.finish()
  })

  it("sends no call before it has ended", async () => {
    const driven = begun()
    assert.deepInclude(driven.send("early").error, { _tag: "ConnectionClosed", reached: "no", retryable: true })
    driven.deliver(probe)
    assert.deepInclude(driven.send("early").error, { _tag: "ConnectionClosed", reached: "no", retryable: true })
    assert.deepStrictEqual((await driven.take()).map((frame) => frame._tag), ["Rerr", "Tinit"])
    await driven.finish()
  })

  it("offers the window it was given", async () => {
    const driven = begun({ window: 8 })
    driven.deliver(probe)
    const frames = await driven.take()
    assert.deepStrictEqual(frames[1], {
      _tag: "Tinit",
      tag: 1,
      version: 1,
      headers: [...framer(8), [utf8("tls"), utf8("off")]]
    })
    await driven.finish()
  })

  it("takes an Rinit with any tag and without headers", async () => {
    for (const tag of [0, 1, 5]) {
      const driven = await initializing()
      driven.deliver({ _tag: "Rinit", tag, version: 1, headers: [] })
      assert.deepStrictEqual(driven.ready, [undefined])
      await driven.finish()
    }
  })

  it("takes the server's window", async () => {
    const driven = await initializing()
    driven.deliver(rinit5)
    driven.deliver(rping)
    await driven.take()
    driven.send("hello")
    assert.deepStrictEqual(await driven.hex(), [fragments.join("")])
    driven.deliver(ok(2, "hello"))
    await driven.finish()
  })

  it("leaves out headers that it does not know", async () => {
    const driven = await initializing()
    driven.deliver({
      _tag: "Rinit",
      tag: 1,
      version: 1,
      headers: [[utf8("tls"), utf8("desired")], [utf8("weather"), utf8("fine")], ...framer(5)]
    })
    assert.deepStrictEqual(driven.ready, [undefined])
    await driven.finish()
  })
})

describe("a server that knows no handshake", () => {
  it("answers the probe with an error, and gets a session without one", async () => {
    const driven = begun()
    await driven.take()
    driven.deliver({ _tag: "Rerr", tag: 1, why: "Unexpected mux message type 127" })
    assert.deepStrictEqual(driven.ready, [undefined])
    const sent = driven.send("hi")
    assert.deepStrictEqual((await driven.take()).map((frame) => frame._tag), ["Tping", "Tdispatch"])
    driven.deliver(ok(2, "ho"))
    assert.strictEqual(sent.text, "ho")
    await driven.finish()
  })

  it("is one whose echo has another tag or another text", async () => {
    for (const answer of [{ tag: 2, why: "tinit check" }, { tag: 1, why: "tinit cheque" }, { tag: 1, why: "" }]) {
      const driven = begun()
      driven.deliver({ _tag: "Rerr", ...answer })
      assert.deepStrictEqual(driven.ready, [undefined])
      assert.deepStrictEqual((await driven.take()).map((frame) => frame._tag), ["Rerr", "Tping"])
      await driven.finish()
    }
  })

  it("is heard when its first message is something else", async () => {
    const pinged = begun()
    pinged.deliver({ _tag: "Tping", tag: 9 })
    assert.deepStrictEqual((await pinged.take()).slice(1), [{ _tag: "Tping", tag: 1 }, { _tag: "Rping", tag: 9 }])
    await pinged.finish()

    const leased = begun()
    leased.deliver({ _tag: "Tlease", tag: 0, unit: 0, howMuch: 0n })
    assert.deepStrictEqual(leased.states, ["Open", "Busy"])
    await leased.finish()

    const drained = begun()
    drained.deliver({ _tag: "Tdrain", tag: 1 })
    assert.deepStrictEqual((await drained.take()).slice(1).map((frame) => frame._tag), ["Tping", "Rdrain"])
    assert.strictEqual(drained.session.status.state, "Closed")
    assert.isUndefined(drained.session.status.fault)
    await drained.finish()
  })

  it("ends the session with a first message that no server may send", async () => {
    const driven = begun()
    driven.deliver({ _tag: "Treq", tag: 2, trace: undefined, body: utf8("") })
    assert.strictEqual(driven.session.status.fault?._tag, "ProtocolError")
    await driven.finish()
  })

  it("is never sent fragments", async () => {
    const driven = begun()
    driven.deliver({ _tag: "Rerr", tag: 1, why: "what?" })
    driven.send(new Uint8Array(200_000))
    const dispatches = (await driven.take()).filter((frame) => frame._tag === "Tdispatch")
    assert.strictEqual(dispatches[0]!.body.length, 200_000)
    driven.deliver(ok(2, ""))
    await driven.finish()
  })
})

describe("a handshake that fails", () => {
  it("says what the server refused", async () => {
    const driven = await initializing()
    driven.deliver("0000001e7f000001556e737570706f72746564204d75782076657273696f6e3a2032")
    const fault = handshakeFault(driven)
    assert.strictEqual(fault.cause, "Unsupported Mux version: 2")
    assert.include(fault.message, "Unsupported Mux version: 2")
    await driven.finish()
  })

  it("names a version that is not 1", async () => {
    const driven = await initializing()
    driven.deliver({ _tag: "Rinit", tag: 1, version: 2, headers: [] })
    assert.include(handshakeFault(driven).message, "version 2")
    await driven.finish()
  })

  it("names any other answer to Tinit", async () => {
    const answers: ReadonlyArray<Message.Message> = [
      { _tag: "Tping", tag: 1 },
      { _tag: "Rping", tag: 1 },
      { _tag: "Tdrain", tag: 1 },
      { _tag: "Tlease", tag: 0, unit: 0, howMuch: 5n },
      { _tag: "Tinit", tag: 1, version: 1, headers: [] },
      { _tag: "Rdiscarded", tag: 2 },
      ok(2, "")
    ]
    for (const answer of answers) {
      const driven = await initializing()
      driven.deliver(answer)
      assert.include(handshakeFault(driven).message, `answered Tinit with ${answer._tag}`)
      await driven.finish()
    }
  })

  it("refuses a window that is no positive 32-bit number", async () => {
    const bad = [
      Buffer.alloc(4),
      Buffer.from("ffffffff", "hex"),
      Buffer.alloc(3, 1),
      Buffer.alloc(0)
    ]
    for (const value of bad) {
      const driven = await initializing()
      driven.deliver({ _tag: "Rinit", tag: 1, version: 1, headers: [[utf8("mux-framer"), value]] })
      assert.include(handshakeFault(driven).message, "mux-framer")
      await driven.finish()
    }
  })

  it("says that the server requires TLS", async () => {
    const driven = await initializing()
    driven.deliver({ _tag: "Rinit", tag: 1, version: 1, headers: [...framer(100), [utf8("tls"), utf8("required")]] })
    assert.include(handshakeFault(driven, "tls").message, "the server requires TLS")
    await driven.finish()
  })

  it("is over after its timeout, counted from the start of the session", async () => {
    const silent = begun()
    silent.time.advance(999)
    assert.deepStrictEqual(silent.ready, [])
    silent.time.advance(1)
    assert.include(handshakeFault(silent).message, "no answer within 1000 ms")
    await silent.finish()

    const slow = begun()
    slow.time.advance(600)
    slow.deliver(probe)
    slow.time.advance(399)
    assert.deepStrictEqual(slow.ready, [])
    slow.time.advance(1)
    handshakeFault(slow)
    await slow.finish()
  })

  it("has the connection's end as its cause", async () => {
    const reset = new Error("read ECONNRESET")
    const probed = begun()
    probed.session.connectionLost(reset)
    assert.strictEqual(handshakeFault(probed).cause, reset)
    await probed.finish()

    const asked = await initializing()
    asked.session.connectionLost(reset)
    assert.strictEqual(handshakeFault(asked).cause, reset)
    asked.session.connectionLost("and again")
    await asked.finish()
  })

  it("has the bytes that are no mux as its cause", async () => {
    const sizes = ["7fffffff", "00000000", "00000003000000"]
    for (
      const bytes of [...sizes, "0000000403000001", "00000004bc000001", Buffer.from("HTTP/1.1 400 Bad").toString("hex")]
    ) {
      for (const driven of [begun(), await initializing()]) {
        driven.deliver(bytes)
        assert.deepInclude(handshakeFault(driven).cause, { _tag: "ProtocolError" })
        await driven.finish()
      }
    }
  })

  it("is told to nobody when the client has closed the session itself", async () => {
    const driven = begun()
    driven.session.close("not wanted any more")
    assert.deepStrictEqual(driven.ready, [])
    assert.isUndefined(driven.session.status.fault)
    assert.deepStrictEqual(await driven.take(), [])
    await driven.finish()
  })

  it("lets nothing of what comes afterwards through", async () => {
    const driven = begun()
    driven.deliver("7fffffff")
    driven.deliver(probe, rinit, { _tag: "Tping", tag: 1 })
    driven.time.advance(60_000)
    assert.deepStrictEqual(await driven.take(), [])
    handshakeFault(driven)
    await driven.finish()
  })
})

describe("the opened session", () => {
  it("begins with an answered ping and nothing held", async () => {
    const driven = await opened()
    assert.strictEqual(driven.session.outstanding, 0)
    assert.strictEqual(driven.session.tagsInUse, 0)
    assert.strictEqual(driven.counts.pings, 1)
    await driven.finish()
  })
})

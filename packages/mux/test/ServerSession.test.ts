import { assert, describe, it } from "@effect/vitest"
import {
  decode,
  encode,
  Fragments,
  FrameReader,
  type Message,
  type ServerConnection,
  ServerCounts,
  type ServerExchange,
  ServerSession
} from "@scales-rpc/mux"
import { initHeaders } from "../src/Handshake.ts"
import { defaultLimits } from "../src/Message.ts"
import { fragments, fromHex, none, random, replyFragments, toHex, utf8, vectors } from "./vectors.ts"

/** The connection as the session sees it: what was written, and what was done to it. */
class Connection implements ServerConnection {
  full = false
  paused = false
  state: "open" | "ended" | "destroyed" = "open"
  written = ""
  readonly messages: Array<Message.Message> = []
  readonly tags: Array<number> = []
  readonly #reader = new FrameReader()
  readonly #fragments = new Fragments()

  write(chunk: Uint8Array): boolean {
    assert.strictEqual(this.state, "open")
    this.written += toHex(chunk)
    this.#reader.push(chunk, (type, tag, body) => {
      this.tags.push(tag & 0x7fffff)
      const whole = this.#fragments.push(type, tag, body)
      if (whole !== undefined) this.messages.push(decode(type, tag, whole))
    })
    return !this.full
  }

  end(): void {
    this.state = "ended"
  }

  destroy(): void {
    this.state = "destroyed"
  }

  pause(): void {
    this.paused = true
  }

  resume(): void {
    this.paused = false
  }
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve))

interface Harness {
  readonly session: ServerSession
  readonly connection: Connection
  readonly counts: ServerCounts
  readonly exchanges: Array<ServerExchange>
  readonly ends: () => number
  /** Gives the session messages, and what was written because of them in this turn. */
  readonly exchange: (...messages: ReadonlyArray<Message.Message | string>) => Promise<ReadonlyArray<Message.Message>>
  /** The same in hexadecimal. */
  readonly hex: (...messages: ReadonlyArray<Message.Message | string>) => Promise<string>
}

const harness = (options?: {
  readonly window?: number
  readonly onRequest?: (exchange: ServerExchange) => void
  readonly limits?: Partial<Message.Limits>
}): Harness => {
  const connection = new Connection()
  const exchanges: Array<ServerExchange> = []
  const counts = new ServerCounts()
  let ends = 0
  const session = new ServerSession({
    connection,
    limits: { ...defaultLimits, ...options?.limits },
    window: options?.window ?? 0x7fffffff,
    counts,
    onRequest: (exchange) => {
      exchanges.push(exchange)
      options?.onRequest?.(exchange)
    },
    onEnd: () => ends++
  })
  const give = async (messages: ReadonlyArray<Message.Message | string>) => {
    for (const message of messages) session.receive(typeof message === "string" ? fromHex(message) : encode(message))
    await turn()
  }
  return {
    session,
    connection,
    counts,
    exchanges,
    ends: () => ends,
    exchange: async (...messages) => {
      const before = connection.messages.length
      await give(messages)
      return connection.messages.slice(before)
    },
    hex: async (...messages) => {
      const before = connection.written.length
      await give(messages)
      return connection.written.slice(before)
    }
  }
}

/** Answers each request with its own body. */
const echo = (exchange: ServerExchange) => exchange.reply(0, exchange.request.body)

const probe = "0000000f7f00000174696e697420636865636b"
const tinit = "0000002a4400000100010000000a6d75782d6672616d6572000000047fffffff00000003746c73000000036f6666"
const rinit = "0000002abc00000100010000000a6d75782d6672616d6572000000047fffffff00000003746c73000000036f6666"
const hello = "0000000f0200000200000000000068656c6c6f"
const helloEchoed = "0000000cfe00000200000068656c6c6f"
const discard2 = "0000000ec200000000000274696d656f7574"
const rdiscarded2 = "00000004be000002"
const tdrain = "0000000440000001"
const rdrain = "00000004c0000001"

const request = (tag: number, text = "hi"): Message.Tdispatch => ({
  _tag: "Tdispatch",
  tag,
  contexts: [],
  destination: "",
  dtab: [],
  body: utf8(text)
})

const rerr = (tag: number, why: string): Message.Rerr => ({ _tag: "Rerr", tag, why })

const init = (headers: ReadonlyArray<Message.Pair>, tag = 1, version = 1): Message.Tinit => ({
  _tag: "Tinit",
  tag,
  version,
  headers
})

/** Nothing of the session is left, however it ended. */
const assertClean = ({ session }: Harness) => {
  assert.strictEqual(session.outstanding, 0)
  assert.strictEqual(session.queued, 0)
}

describe("the handshake of a server session", () => {
  it("echoes the probe and answers Tinit, byte for byte as Finagle", async () => {
    const { hex } = harness()
    assert.strictEqual(await hex(probe), probe)
    assert.strictEqual(await hex(tinit), rinit)
  })

  it("takes the probe under its canonical type", async () => {
    const { hex } = harness()
    assert.strictEqual(await hex("0000000f8000000174696e697420636865636b"), probe)
    assert.strictEqual(await hex(tinit), rinit)
  })

  it("offers its window", async () => {
    const { hex } = harness({ window: 5 })
    await hex(probe)
    assert.strictEqual(
      await hex(tinit),
      "0000002abc00000100010000000a6d75782d6672616d6572000000040000000500000003746c73000000036f6666"
    )
  })

  it("takes the client's window, and none where none is named", async () => {
    const first = harness()
    await first.exchange(probe, init(initHeaders(1234)))
    assert.strictEqual(first.session.window, 1234)
    const second = harness()
    const [, answer] = await second.exchange(probe, init([]))
    assert.deepStrictEqual(answer, { _tag: "Rinit", tag: 1, version: 1, headers: initHeaders(0x7fffffff) })
    assert.strictEqual(second.session.window, 0x7fffffff)
  })

  it("answers Tinit with its own tag", async () => {
    const { exchange } = harness()
    const [, answer] = await exchange(probe, init([], 5))
    assert.strictEqual(answer!.tag, 5)
  })

  it("serves a client that says nothing of the kind", async () => {
    const { hex } = harness({ onRequest: echo })
    assert.strictEqual(await hex(hello), helloEchoed)
    const pinged = harness()
    assert.strictEqual(await pinged.hex("0000000441000001"), "00000004bf000001")
  })

  it("serves a client that stops after the probe", async () => {
    const { hex } = harness({ onRequest: echo })
    await hex(probe)
    assert.strictEqual(await hex(hello), helloEchoed)
  })

  it("finds a Tinit without a probe unexpected, and a second one, and goes on", async () => {
    const { hex } = harness({ onRequest: echo })
    assert.strictEqual(await hex(tinit), "000000227f000001556e6578706563746564206d7578206d6573736167652074797065203638")
    assert.strictEqual(await hex(hello), helloEchoed)
    const second = harness({ onRequest: echo })
    await second.hex(probe, tinit)
    assert.strictEqual(
      await second.hex(tinit),
      "000000227f000001556e6578706563746564206d7578206d6573736167652074797065203638"
    )
    assert.strictEqual(await second.hex(hello), helloEchoed)
  })

  it("finds a probe with another text or tag unexpected", async () => {
    const { exchange } = harness()
    assert.deepStrictEqual(await exchange(rerr(1, "tinit chek")), [rerr(1, "Unexpected mux message type 127")])
    const other = harness()
    assert.deepStrictEqual(await other.exchange(rerr(3, "tinit check")), [rerr(3, "Unexpected mux message type 127")])
  })

  it("refuses version 2, and ends", async () => {
    const { connection, hex } = harness()
    await hex(probe)
    assert.strictEqual(
      await hex(init([], 1, 2)),
      "0000001e7f000001556e737570706f72746564204d75782076657273696f6e3a2032"
    )
    assert.strictEqual(connection.state, "ended")
  })

  for (
    const [value, why] of [
      ["00000000", "requirement failed"],
      ["ffffffff", "requirement failed"],
      ["05", "tried to read 4 byte(s) when remaining bytes was 1"]
    ] as const
  ) {
    it(`answers a window of ${value} with Rinit, then says what is wrong with it, and ends`, async () => {
      const { connection, exchange } = harness()
      const [, answer, error] = await exchange(probe, init([[utf8("mux-framer"), fromHex(value)]]))
      assert.strictEqual(answer!._tag, "Rinit")
      assert.deepStrictEqual(error, rerr(1, why))
      assert.strictEqual(connection.state, "ended")
    })
  }

  it("refuses a client that demands TLS, byte for byte as Finagle", async () => {
    const { connection, exchange, hex } = harness()
    await exchange(probe)
    assert.strictEqual(
      (await hex(init([[utf8("tls"), utf8("required")]]))).slice(rinit.length),
      vectors.find(({ name }) => name.startsWith("TLS"))!.hex
    )
    assert.strictEqual(connection.state, "ended")
  })

  it("goes on without TLS for a client that would have liked it", async () => {
    const { exchange } = harness({ onRequest: echo })
    await exchange(probe, init([[utf8("tls"), utf8("desired")]]))
    assert.strictEqual((await exchange(request(2)))[0]!._tag, "Rdispatch")
  })

  it("reads a client that sends everything at once", async () => {
    const { hex } = harness({ onRequest: echo })
    assert.strictEqual(await hex(probe + tinit + hello), probe + rinit + helloEchoed)
  })

  it("ends without a word when it is drained before it is over", async () => {
    for (const said of [[], [probe]]) {
      const { connection, exchange, session } = harness()
      await exchange(...said)
      const written = connection.written
      session.drain()
      assert.strictEqual(connection.state, "ended")
      assert.strictEqual(connection.written, written)
    }
  })
})

describe("a server session", () => {
  it("answers each request under its tag, in any order", async () => {
    const { connection, exchange, exchanges, session } = harness()
    assert.deepStrictEqual(await exchange(request(2, "a"), request(3, "b"), request(7, "c")), [])
    assert.strictEqual(session.outstanding, 3)
    for (const index of [1, 2, 0]) exchanges[index]!.reply(0, exchanges[index]!.request.body)
    await turn()
    assert.deepStrictEqual(connection.tags, [3, 7, 2])
    assert.strictEqual(session.outstanding, 0)
  })

  it("answers a Treq with an Rreq", async () => {
    const { hex } = harness({ onRequest: echo })
    assert.strictEqual(await hex("0000000a010000020068656c6c6f"), "0000000aff0000020068656c6c6f")
  })

  it("takes only the first answer to a request", async () => {
    const { connection, exchange, exchanges } = harness()
    await exchange(request(2))
    exchanges[0]!.reply(0, utf8("first"))
    exchanges[0]!.reply(0, utf8("second"))
    await turn()
    assert.strictEqual(connection.messages.length, 1)
  })

  it("answers pings with their tags", async () => {
    const { exchange } = harness()
    assert.deepStrictEqual(await exchange({ _tag: "Tping", tag: 1 }, { _tag: "Tping", tag: 9 }), [
      { _tag: "Rping", tag: 1 },
      { _tag: "Rping", tag: 9 }
    ])
  })

  it("pings, one at a time, and finds an Rping it did not ask for unexpected", async () => {
    const { connection, exchange, session } = harness()
    assert.isFalse(session.ping(() => assert.fail("before the session")))
    await exchange({ _tag: "Tping", tag: 1 })
    let pongs = 0
    assert.isTrue(session.ping(() => pongs++))
    assert.isFalse(session.ping(() => pongs++))
    await turn()
    assert.deepStrictEqual(connection.messages[1], { _tag: "Tping", tag: 1 })
    assert.deepStrictEqual(await exchange({ _tag: "Rping", tag: 1 }), [])
    assert.strictEqual(pongs, 1)
    assert.deepStrictEqual(await exchange({ _tag: "Rping", tag: 1 }), [rerr(1, "Unexpected mux message type -65")])
    assert.isTrue(session.ping(() => pongs++))
  })

  it("says of every other known message that it is unexpected, and goes on", async () => {
    const { exchange } = harness({ onRequest: echo })
    const unexpected: ReadonlyArray<readonly [Message.Message, number]> = [
      [{ _tag: "Tdrain", tag: 1 }, 64],
      [{ _tag: "Rdrain", tag: 1 }, -64],
      [{ _tag: "Rdiscarded", tag: 4 }, -66],
      [{ _tag: "Tlease", tag: 0, unit: 0, howMuch: 1n }, 67],
      [init([]), 68],
      [{ _tag: "Rinit", tag: 1, version: 1, headers: [] }, -68],
      [rerr(6, "?"), 127],
      [{ _tag: "Rdispatch", tag: 2, status: 0, contexts: [], body: none }, -2],
      [{ _tag: "Rreq", tag: 2, status: 0, body: none }, -1]
    ]
    await exchange({ _tag: "Tping", tag: 1 })
    for (const [message, type] of unexpected) {
      assert.deepStrictEqual(await exchange(message), [rerr(message.tag, `Unexpected mux message type ${type}`)])
    }
    assert.strictEqual((await exchange(request(2)))[0]!._tag, "Rdispatch")
  })

  for (
    const [name, bytes] of [
      ["an unknown type", "0000000403000002"],
      ["a frame of 3 bytes", "00000003"],
      ["a size of 2^31-1", "7fffffff"],
      ["a destination that is no path", "0000000e02000002000000046e6f70650000"],
      ["a dtab that is none", "0000001002000002000000000001000178000179"],
      ["a context cut short", "0000000a02000002000100056162"],
      ["a fragment of a ping", "0000000441800001"],
      ["HTTP", toHex(utf8("GET / HTTP/1.1\r\n\r\n"))]
    ] as const
  ) {
    it(`ends without a word at ${name}`, async () => {
      const h = harness()
      await h.exchange(request(5))
      assert.strictEqual(await h.hex(bytes), "")
      assert.strictEqual(h.connection.state, "destroyed")
      assert.strictEqual(h.exchanges[0]!.interruption!._tag, "ConnectionLost")
      assert.strictEqual(h.counts.undecodable, 1)
      assert.strictEqual(h.ends(), 1)
      assertClean(h)
    })
  }

  it("reads nothing more after bytes that are no mux", async () => {
    const { exchanges, hex } = harness({ onRequest: echo })
    await hex("0000000403000002" + hello)
    await hex(hello)
    assert.strictEqual(exchanges.length, 0)
  })

  it("interrupts what runs when the connection is lost, and ignores what it answers then", async () => {
    const h = harness()
    await h.exchange(request(2), request(3))
    const interrupted: Array<number> = []
    for (const exchange of h.exchanges) {
      exchange.onInterrupt = () => {
        interrupted.push(exchange.request.tag)
        exchange.reply(0, none)
      }
    }
    const cause = new Error("reset")
    h.session.closed(cause)
    h.session.closed(undefined)
    assert.deepStrictEqual(interrupted, [2, 3])
    assert.deepStrictEqual(h.exchanges[0]!.interruption, { _tag: "ConnectionLost", cause })
    assert.strictEqual(h.ends(), 1)
    assertClean(h)
    await turn()
    assert.strictEqual(h.connection.written, "")
  })

  it("tells of leases", async () => {
    const { exchange, hex, session } = harness()
    session.lease(5)
    await exchange({ _tag: "Tping", tag: 1 })
    session.lease(1000)
    session.lease(0)
    assert.strictEqual(await hex(), "0000000d430000000000000000000003e80000000d43000000000000000000000000")
  })
})

describe("discards", () => {
  it("of a request that runs interrupt it and are answered at once", async () => {
    const h = harness()
    await h.exchange(hello)
    let interrupted = 0
    h.exchanges[0]!.onInterrupt = () => interrupted++
    assert.strictEqual(await h.hex(discard2), rdiscarded2)
    assert.strictEqual(interrupted, 1)
    assert.deepStrictEqual(h.exchanges[0]!.interruption, { _tag: "Discarded", why: "timeout" })
    assert.strictEqual(h.counts.discards, 1)
    assertClean(h)
  })

  it("are understood in both spellings", async () => {
    const { hex } = harness()
    await hex(hello)
    assert.strictEqual(await hex("0000000e4200000000000274696d656f7574"), rdiscarded2)
  })

  it("of a request whose reply is queued take the reply back", async () => {
    const h = harness()
    h.connection.full = true
    await h.exchange({ _tag: "Tping", tag: 1 }, request(2))
    h.exchanges[0]!.reply(0, utf8("late"))
    h.session.receive(fromHex(discard2))
    h.connection.full = false
    h.session.drained()
    await turn()
    assert.deepStrictEqual(h.connection.messages, [{ _tag: "Rping", tag: 1 }, { _tag: "Rdiscarded", tag: 2 }])
    assertClean(h)
  })

  it("of a request whose reply has left in part drop the rest", async () => {
    const h = harness({ window: 5 })
    await h.exchange(probe, init(initHeaders(1000)), request(2))
    h.connection.full = true
    h.exchanges[0]!.reply(0, new Uint8Array(1 << 20))
    await turn()
    h.session.receive(fromHex(discard2))
    h.connection.full = false
    h.session.drained()
    await turn()
    assert.isBelow(h.connection.tags.length, 500)
    assert.deepStrictEqual(h.connection.messages.at(-1), { _tag: "Rdiscarded", tag: 2 })
    assertClean(h)
  })

  it("of a request whose reply has left, or of no request, are not answered", async () => {
    const h = harness({ onRequest: echo })
    await h.exchange(hello)
    assert.strictEqual(await h.hex(discard2), "")
    assert.strictEqual(await h.hex({ _tag: "Tdiscarded", tag: 0, which: 77, why: "" }), "")
    assert.strictEqual(h.counts.orphanedDiscards, 2)
  })

  it("of a request of which only fragments have come drop those and are answered", async () => {
    const h = harness({ window: 5, onRequest: echo })
    await h.exchange(fragments[0]!, fragments[1]!)
    assert.strictEqual(await h.hex(discard2), rdiscarded2)
    assert.strictEqual(h.session.reassembling, 0)
    assert.strictEqual(await h.hex(hello), helloEchoed)
  })

  it("free the tag: a late answer does not reach its next request", async () => {
    const h = harness()
    await h.exchange(request(2, "first"), { _tag: "Tdiscarded", tag: 0, which: 2, why: "" }, request(2, "second"))
    assert.strictEqual(h.session.outstanding, 1)
    h.exchanges[0]!.reply(0, utf8("of the first"))
    h.exchanges[1]!.reply(0, utf8("of the second"))
    await turn()
    assert.deepStrictEqual(h.connection.messages, [
      { _tag: "Rdiscarded", tag: 2 },
      { _tag: "Rdispatch", tag: 2, status: 0, contexts: [], body: utf8("of the second") }
    ])
    assertClean(h)
  })
})

describe("a tag used twice", () => {
  it("ends the session, after every live tag was told, byte for byte as Finagle", async () => {
    const h = harness()
    await h.exchange(request(2), request(3))
    const interrupted: Array<number> = []
    for (const exchange of h.exchanges) exchange.onInterrupt = () => interrupted.push(exchange.request.tag)
    const told = vectors.find(({ name }) => name === "a duplicate tag")!.hex
    assert.strictEqual(await h.hex(request(2)), told + told.replace("7f000002", "7f000003"))
    assert.deepStrictEqual(interrupted, [2, 3])
    assert.deepStrictEqual(h.exchanges[1]!.interruption, { _tag: "DuplicateTag", tag: 2 })
    assert.strictEqual(h.connection.state, "ended")
    assert.strictEqual(h.counts.duplicateTags, 1)
    assert.strictEqual(h.ends(), 1)
    assertClean(h)
  })

  it("is one also while the reply to the first has not left", async () => {
    const h = harness()
    h.connection.full = true
    await h.exchange({ _tag: "Tping", tag: 1 }, request(2))
    h.exchanges[0]!.reply(0, none)
    h.session.receive(encode(request(2)))
    assert.strictEqual(h.exchanges.length, 1)
    h.connection.full = false
    h.session.drained()
    await turn()
    assert.deepStrictEqual(h.connection.messages.map(({ _tag }) => _tag), ["Rping", "Rdispatch", "Rerr"])
    assert.strictEqual(h.connection.state, "ended")
  })

  it("ends the session there: what came in the same chunk behind it is not read", async () => {
    const h = harness()
    await h.hex(toHex(Buffer.concat([request(2), request(2), request(3)].map(encode))))
    assert.strictEqual(h.exchanges.length, 1)
    assert.strictEqual(h.connection.state, "ended")
  })

  it("is not told to tags that are answered", async () => {
    const h = harness()
    h.connection.full = true
    await h.exchange({ _tag: "Tping", tag: 1 }, request(2), request(3))
    h.exchanges[1]!.reply(0, none)
    h.session.receive(encode(request(2)))
    h.connection.full = false
    h.session.drained()
    assert.deepStrictEqual(
      h.connection.messages.filter(({ _tag }) => _tag === "Rerr").map(({ tag }) => tag),
      [2]
    )
  })

  it("is none once the reply has left", async () => {
    const h = harness({ onRequest: echo })
    await h.exchange(request(2))
    assert.strictEqual((await h.exchange(request(2)))[0]!._tag, "Rdispatch")
  })
})

describe("draining a session", () => {
  it("asks the client, serves it until it agrees, nacks it after that, and ends with the last reply", async () => {
    const h = harness()
    await h.exchange(request(2))
    h.session.drain()
    h.session.drain()
    assert.strictEqual(await h.hex(), tdrain)
    await h.exchange(request(3))
    assert.strictEqual(h.exchanges.length, 2)
    assert.strictEqual(await h.hex(rdrain), "")
    assert.strictEqual(await h.hex(hello.replace("02000002", "02000004")), "00000007fe000004020000")
    assert.strictEqual(await h.hex("0000000901000005006e61636b"), "00000005ff00000502")
    assert.strictEqual(h.counts.drainNacks, 2)
    assert.strictEqual(h.connection.state, "open")
    h.exchanges[0]!.reply(0, none)
    await turn()
    assert.strictEqual(h.connection.state, "open")
    h.exchanges[1]!.reply(0, none)
    await turn()
    assert.strictEqual(h.connection.state, "ended")
    assert.strictEqual(h.ends(), 1)
    assertClean(h)
  })

  it("ends an idle one as soon as the client agrees", async () => {
    const h = harness()
    await h.exchange({ _tag: "Tping", tag: 1 })
    h.session.drain()
    assert.strictEqual(await h.hex(rdrain), tdrain)
    assert.strictEqual(h.connection.state, "ended")
  })

  it("ends when the last request is discarded", async () => {
    const h = harness()
    await h.exchange(hello)
    h.session.drain()
    await h.exchange(rdrain)
    assert.strictEqual(await h.hex(discard2), rdiscarded2)
    assert.strictEqual(h.connection.state, "ended")
  })

  it("waits until the last reply has left", async () => {
    const h = harness()
    await h.exchange(request(2))
    h.session.drain()
    h.connection.full = true
    await h.exchange(rdrain)
    h.exchanges[0]!.reply(0, none)
    await turn()
    assert.strictEqual(h.connection.state, "open")
    h.connection.full = false
    h.session.drained()
    assert.deepStrictEqual(h.connection.messages.map(({ _tag }) => _tag), ["Tdrain", "Rdispatch"])
    assert.strictEqual(h.connection.state, "ended")
  })

  it("finds an Rdrain with another tag, or a second one, unexpected", async () => {
    const { exchange, session } = harness()
    await exchange(request(2))
    session.drain()
    const drains = await exchange({ _tag: "Rdrain", tag: 2 }, rdrain, rdrain)
    assert.deepStrictEqual(drains.slice(1), [
      rerr(2, "Unexpected mux message type -64"),
      rerr(1, "Unexpected mux message type -64")
    ])
  })

  it("interrupts what runs when its time is over", async () => {
    const h = harness()
    await h.exchange(request(2))
    let interrupted = 0
    h.exchanges[0]!.onInterrupt = () => interrupted++
    h.session.drain()
    h.session.abort()
    h.session.abort()
    assert.strictEqual(interrupted, 1)
    assert.deepStrictEqual(h.exchanges[0]!.interruption, { _tag: "DrainTimeout" })
    assert.strictEqual(h.connection.written, tdrain)
    assert.strictEqual(h.connection.state, "ended")
    assert.strictEqual(h.ends(), 1)
    assertClean(h)
  })
})

describe("fragments and slow readers", () => {
  it("puts a client's fragments together, and takes whole requests all the same", async () => {
    const { hex } = harness({ window: 5, onRequest: echo })
    await hex(probe, tinit)
    assert.strictEqual(await hex(...fragments), helloEchoed)
    assert.strictEqual(await hex(hello), helloEchoed)
  })

  it("cuts replies to the client's window, byte for byte as Finagle", async () => {
    const { exchanges, hex } = harness()
    await hex(probe, init(initHeaders(8)), request(2, "big:20"))
    exchanges[0]!.reply(0, utf8("x".repeat(20)))
    assert.strictEqual(
      await hex(),
      replyFragments.join("")
    )
  })

  it("sends long replies by turns", async () => {
    const { connection, exchange, exchanges } = harness()
    await exchange(probe, init(initHeaders(8)), request(2), request(3))
    connection.tags.length = 0
    for (const exchange of exchanges) exchange.reply(0, utf8("y".repeat(30)))
    await turn()
    assert.deepStrictEqual(connection.tags, [2, 3, 2, 3, 2, 3, 2, 3, 2, 3])
  })

  it("reads no more from a client that does not read, and goes on when it does", async () => {
    const h = harness()
    await h.exchange({ _tag: "Tping", tag: 1 })
    h.connection.full = true
    for (let tag = 2; tag < 12; tag++) await h.exchange(request(tag))
    assert.isFalse(h.connection.paused)
    for (const exchange of h.exchanges) exchange.reply(0, new Uint8Array(1 << 20))
    await turn()
    await h.exchange({ _tag: "Tping", tag: 1 })
    assert.isTrue(h.connection.paused)
    h.session.drained()
    assert.isTrue(h.connection.paused)
    for (let i = 0; i < 10; i++) h.session.drained()
    assert.isFalse(h.connection.paused)
    assert.strictEqual(h.session.queued, 0)
    assert.strictEqual(h.connection.messages.length, 12)
  })
})

describe("any client", () => {
  it("leaves nothing behind in the session, whatever it sends", async () => {
    const next = random(99)
    for (let round = 0; round < 300; round++) {
      const h = harness({ limits: { messageBytes: 1 << 16 } })
      const frames = vectors.map(({ hex }) => hex)
      for (let step = 0; step < 30; step++) {
        const tag = 2 + next(4)
        const open = h.exchanges[next(Math.max(1, h.exchanges.length))]
        switch (next(8)) {
          case 0:
            h.session.receive(encode({ _tag: "Tdiscarded", tag: 0, which: tag, why: "w" }))
            break
          case 1:
            h.connection.full = next(2) === 0
            if (!h.connection.full) h.session.drained()
            break
          case 2:
            h.session.receive(fromHex(frames[next(frames.length)]!))
            break
          case 3:
            if (next(5) === 0) h.session.drain()
            else open?.reply(0, new Uint8Array(next(1000)))
            break
          case 4: {
            const frame = fromHex(frames[next(frames.length)]!)
            frame[next(frame.length)] = next(256)
            if (next(4) === 0) h.session.receive(frame)
            break
          }
          case 5:
            await turn()
            break
          case 6:
            open?.reply(1, utf8("e"))
            break
          default:
            h.session.receive(encode(request(tag)))
        }
      }
      h.connection.full = false
      h.session.drained()
      const running = h.exchanges.filter(({ interruption, state }) => state === "running" && interruption === undefined)
      assert.strictEqual(h.session.outstanding, running.length)
      h.session.closed(undefined)
      await turn()
      assertClean(h)
      assert.strictEqual(h.session.reassembling, 0)
      assert.strictEqual(h.ends(), 1)
      assert.isTrue(h.exchanges.every(({ state }) => state !== "running"))
    }
  })
})

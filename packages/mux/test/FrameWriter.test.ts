import { assert, describe, it } from "@effect/vitest"
import {
  type ChunkSink,
  decode,
  encode,
  Fragments,
  FrameReader,
  FrameWriter,
  type Message,
  MuxEncodeError,
  Outgoing
} from "@scales-rpc/mux"
import { fragments, fromHex, none, random, replyFragments, toHex, utf8, vectors } from "./vectors.ts"

/** Keeps the chunks; says that it is full when told to. */
class Chunks implements ChunkSink {
  readonly chunks: Array<Uint8Array> = []
  full = false

  write(chunk: Uint8Array): boolean {
    this.chunks.push(chunk)
    return !this.full
  }

  get bytes(): Uint8Array {
    return Buffer.concat(this.chunks)
  }

  get frames(): Array<{ type: number; tag: number; body: Uint8Array }> {
    const frames: Array<{ type: number; tag: number; body: Uint8Array }> = []
    new FrameReader().push(this.bytes, (type, tag, body) => frames.push({ type, tag, body }))
    return frames
  }

  get messages(): Array<Message.Message> {
    const messages: Array<Message.Message> = []
    const parts = new Fragments()
    for (const { body, tag, type } of this.frames) {
      const whole = parts.push(type, tag, body)
      if (whole !== undefined) messages.push(decode(type, tag, whole))
    }
    assert.strictEqual(parts.size, 0)
    return messages
  }
}

/** Copies what it is given when it takes it: at once, or while `slow` later. */
class Taking implements ChunkSink {
  slow = false
  readonly #taken: Array<Uint8Array> = []
  #held: Array<Uint8Array> = []

  write(chunk: Uint8Array): boolean {
    this.#held.push(chunk)
    if (!this.slow) this.take()
    return true
  }

  take(): void {
    for (const chunk of this.#held) this.#taken.push(Uint8Array.from(chunk))
    this.#held = []
  }

  taken(): boolean {
    return this.#held.length === 0
  }

  get bytes(): Uint8Array {
    return Buffer.concat(this.#taken)
  }
}

const open = (window?: number) => {
  const sink = new Chunks()
  const writer = new FrameWriter(sink)
  if (window !== undefined) writer.window = window
  return { sink, writer }
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve))

const reply = (tag: number, body: Uint8Array): Message.Rdispatch => ({
  _tag: "Rdispatch",
  tag,
  status: 0,
  contexts: [],
  body
})

const written = vectors.filter(({ readOnly }) => readOnly !== true)

describe("FrameWriter", () => {
  it("writes everything queued in one turn in one chunk, in order, when the turn ends", async () => {
    const { sink, writer } = open()
    for (const { message } of written) writer.send(message)
    assert.strictEqual(sink.chunks.length, 0)
    assert.strictEqual(writer.size, written.length)
    await turn()
    assert.strictEqual(sink.chunks.length, 1)
    assert.strictEqual(toHex(sink.bytes), written.map(({ hex }) => hex).join(""))
    assert.strictEqual(writer.size, 0)
    writer.send({ _tag: "Tping", tag: 1 })
    await turn()
    assert.strictEqual(sink.chunks.length, 2)
  })

  it("writes at once what is flushed", () => {
    const { sink, writer } = open()
    writer.send({ _tag: "Tping", tag: 1 })
    writer.flush()
    assert.strictEqual(toHex(sink.bytes), "0000000441000001")
  })

  it("refuses a message without a form when it is queued", () => {
    const { writer } = open()
    assert.throws(() => writer.send({ _tag: "Tping", tag: -1 }), MuxEncodeError, "invalid tag number -1")
    assert.strictEqual(writer.size, 0)
  })

  it("cuts dispatches to the peer's window", () => {
    const request = vectors.find(({ name }) => name === "V7 Tdispatch")!.message
    const narrow = open(5)
    narrow.writer.send(request)
    narrow.writer.flush()
    assert.strictEqual(toHex(narrow.sink.bytes), fragments.join(""))
    const wider = open(8)
    wider.writer.send(reply(2, utf8("x".repeat(20))))
    wider.writer.flush()
    assert.strictEqual(toHex(wider.sink.bytes), replyFragments.join(""))
  })

  it("sends a body of exactly the window whole, and of one byte more in two", () => {
    const { sink, writer } = open(10)
    writer.send(reply(2, new Uint8Array(7)))
    writer.send(reply(3, new Uint8Array(8)))
    writer.flush()
    assert.deepStrictEqual(sink.frames.map(({ body, tag }) => [tag, body.length]), [[2, 10], [0x800003, 10], [3, 1]])
  })

  it("cuts nothing but dispatches", () => {
    const { sink, writer } = open(5)
    const whole = written.filter(({ message }) => message._tag !== "Tdispatch" && message._tag !== "Rdispatch")
    for (const { message } of whole) writer.send(message)
    writer.flush()
    assert.strictEqual(toHex(sink.bytes), whole.map(({ hex }) => hex).join(""))
  })

  it("sends what arrives as it was, with any window", () => {
    const next = random(7)
    for (let window = 1; window < 120; window++) {
      const { sink, writer } = open(window)
      const sent = new Map<number, Message.Message>()
      for (let tag = 2; tag < 12; tag++) {
        const body = Uint8Array.from({ length: next(200) }, () => next(256))
        const message: Message.Message = { ...written[6 + next(2)]!.message as Message.Tdispatch, tag, body }
        sent.set(tag, message)
        writer.send(message)
      }
      writer.flush()
      assert.isTrue(sink.frames.every(({ body }) => body.length <= window))
      assert.strictEqual(sink.messages.length, sent.size)
      for (const message of sink.messages) assert.deepStrictEqual(message, sent.get(message.tag))
      assert.strictEqual(writer.bytes, 0)
    }
  })

  it("takes one slice of each message in turn", () => {
    const { sink, writer } = open(8)
    writer.send(reply(2, new Uint8Array(30)))
    writer.send(reply(3, new Uint8Array(30)))
    writer.send({ _tag: "Tping", tag: 1 })
    writer.flush()
    assert.deepStrictEqual(sink.frames.map(({ tag }) => tag & 0x7fffff), [2, 3, 1, 2, 3, 2, 3, 2, 3, 2, 3])
  })

  it("lets a short message overtake a long one that is being written", () => {
    const { sink, writer } = open(1000)
    sink.full = true
    writer.send(reply(2, new Uint8Array(1 << 20)))
    writer.flush()
    const before = sink.frames.length
    assert.isBelow(before, 200)
    writer.send(reply(3, utf8("short")))
    sink.full = false
    writer.drained()
    const tags = sink.frames.map(({ tag }) => tag & 0x7fffff)
    assert.isAtMost(tags.indexOf(3) - before, 1)
    assert.strictEqual(sink.messages.length, 2)
  })

  it("changes no bytes that a sink has not taken, whoever writes meanwhile", () => {
    for (let seed = 1; seed <= 200; seed++) {
      const next = random(seed)
      const pairs = Array.from({ length: 3 }, () => {
        const window = next(2) === 0 ? undefined : 1 + next(5000)
        const sink = new Taking()
        const writer = new FrameWriter(sink)
        if (window !== undefined) writer.window = window
        return { sink, writer, plain: open(window) }
      })
      for (let step = 0; step < 60; step++) {
        const { plain, sink, writer } = pairs[next(3)]!
        switch (next(4)) {
          case 0:
            sink.slow = !sink.slow
            break
          case 1:
            sink.take()
            break
          default: {
            for (let count = 1 + next(4); count > 0; count--) {
              const length = next(20) === 0 ? next(200_000) : next(300)
              const message = reply(2 + next(100), new Uint8Array(length).fill(next(256)))
              writer.send(message)
              plain.writer.send(message)
            }
            writer.flush()
            plain.writer.flush()
          }
        }
      }
      for (const { plain, sink } of pairs) {
        sink.take()
        assert.isTrue(Buffer.compare(sink.bytes, plain.sink.bytes) === 0, `seed ${seed}`)
      }
    }
  })

  it("goes by turns among 50 long messages: at least 95 of 100 runs of one tag are of length 1", () => {
    const { sink, writer } = open(100)
    const next = random(11)
    for (let tag = 2; tag < 52; tag++) writer.send(reply(tag, new Uint8Array(5000 + next(200))))
    writer.flush()
    const runs: Array<number> = []
    let last = -1
    for (const { tag } of sink.frames) {
      if ((tag & 0x7fffff) === last) runs[runs.length - 1]!++
      else runs.push(1)
      last = tag & 0x7fffff
    }
    assert.isAbove(runs.filter((n) => n === 1).length / runs.length, 0.95)
  })

  it("writes a megabyte under a window of 1000 as Finagle does: 1049 frames, full but the last", () => {
    const { sink, writer } = open(1000)
    writer.send(reply(2, new Uint8Array(1 << 20)))
    writer.flush()
    const lengths = sink.frames.map(({ body }) => body.length)
    assert.strictEqual(lengths.length, 1049)
    assert.isTrue(lengths.slice(0, -1).every((length) => length === 1000))
  })

  it("writes a payload over 64 KiB without copying it, in its place", () => {
    const { sink, writer } = open()
    const large = new Uint8Array(100_000).fill(5)
    writer.send({ _tag: "Tping", tag: 1 })
    writer.send(reply(2, large))
    writer.send({ _tag: "Rping", tag: 1 })
    writer.flush()
    assert.isTrue(sink.chunks.some((chunk) => chunk.buffer === large.buffer))
    assert.deepStrictEqual(sink.messages, [{ _tag: "Tping", tag: 1 }, reply(2, large), { _tag: "Rping", tag: 1 }])
  })

  it("slices large payloads into views when the window is wide", () => {
    const { sink, writer } = open(70_000)
    const large = Uint8Array.from({ length: 300_000 }, (_, i) => i)
    writer.send({ ...reply(2, large), contexts: [[utf8("k"), new Uint8Array(30_000)]] })
    writer.send({ _tag: "Rping", tag: 1 })
    writer.flush()
    assert.isAbove(sink.chunks.filter((chunk) => chunk.buffer === large.buffer).length, 1)
    assert.deepStrictEqual(sink.messages.map(({ _tag }) => _tag), ["Rping", "Rdispatch"])
    assert.deepStrictEqual((sink.messages[1] as Message.Rdispatch).body, large)
  })

  it("closes a chunk so that the sink can say that it is full", () => {
    const { sink, writer } = open()
    sink.full = true
    for (let tag = 2; tag < 102; tag++) writer.send(reply(tag, new Uint8Array(10_000)))
    writer.flush()
    assert.strictEqual(sink.chunks.length, 1)
    assert.isBelow(sink.chunks[0]!.length, 200_000)
    assert.isAbove(writer.size, 80)
  })

  it("encodes nothing more while the sink is full, and goes on when it has drained", async () => {
    const { sink, writer } = open()
    sink.full = true
    writer.send({ _tag: "Tping", tag: 1 })
    await turn()
    assert.isTrue(writer.full)
    writer.send({ _tag: "Rping", tag: 2 })
    await turn()
    assert.strictEqual(sink.chunks.length, 1)
    sink.full = false
    writer.drained()
    assert.strictEqual(sink.messages.length, 2)
    assert.strictEqual(writer.size, 0)
  })

  it("finishes a frame whose header has filled the sink", () => {
    const { sink, writer } = open()
    sink.full = true
    writer.send(reply(2, new Uint8Array(100_000)))
    writer.send(reply(3, none))
    writer.flush()
    assert.deepStrictEqual(sink.messages.map(({ tag }) => tag), [2])
    sink.full = false
    writer.drained()
    assert.deepStrictEqual(sink.messages.map(({ tag }) => tag), [2, 3])
  })

  it("does not put a frame between the chunks of another when the sink calls back at once", () => {
    const chunks: Array<Uint8Array> = []
    const writer: FrameWriter = new FrameWriter({
      write: (chunk) => {
        chunks.push(chunk)
        if (chunks.length === 1) writer.send({ _tag: "Tping", tag: 1 })
        writer.drained()
        return true
      }
    })
    writer.send(reply(2, new Uint8Array(100_000)))
    writer.flush()
    const tags: Array<number> = []
    new FrameReader().push(Buffer.concat(chunks), (_type, tag) => tags.push(tag))
    assert.deepStrictEqual(tags, [2, 1])
  })

  it("takes a queued message back, and sends nothing of it", async () => {
    const { sink, writer } = open()
    const first = writer.send(reply(2, utf8("first")))
    const second = writer.send(reply(3, utf8("second")))
    const third = writer.send(reply(4, utf8("third")))
    assert.strictEqual(writer.remove(second), "unwritten")
    assert.strictEqual(writer.remove(second), "unwritten")
    assert.strictEqual(writer.size, 2)
    await turn()
    assert.deepStrictEqual(sink.messages.map(({ tag }) => tag), [2, 4])
    assert.strictEqual(writer.remove(first), "written")
    assert.strictEqual(third.written, "written")
    assert.strictEqual(writer.size, 0)
  })

  it("writes nothing at all when all is taken back", async () => {
    const { sink, writer } = open()
    const only = writer.send(reply(2, utf8("only")))
    writer.remove(only)
    await turn()
    assert.strictEqual(sink.chunks.length, 0)
    writer.send({ _tag: "Tping", tag: 1 })
    await turn()
    assert.strictEqual(sink.chunks.length, 1)
  })

  it("drops the tail of a message of which slices have left", () => {
    const { sink, writer } = open(1000)
    sink.full = true
    const long = writer.send(reply(2, new Uint8Array(1 << 20)))
    writer.flush()
    assert.strictEqual(writer.remove(long), "partial")
    assert.strictEqual(writer.remove(long), "partial")
    assert.strictEqual(writer.size, 0)
    const before = sink.frames.length
    sink.full = false
    writer.drained()
    assert.strictEqual(sink.frames.length, before)
    assert.isTrue(sink.frames.every(({ tag }) => tag === (2 | 0x800000)))
  })

  it("takes messages back from any place in the queue", () => {
    const next = random(3)
    for (let round = 0; round < 200; round++) {
      const { sink, writer } = open(next(2) === 0 ? 16 : undefined)
      sink.full = true
      const entries = Array.from({ length: 20 }, (_, i) => new Outgoing(reply(i + 2, new Uint8Array(next(60)))))
      const kept = new Set(entries.map(({ message }) => message.tag))
      for (const entry of entries) {
        writer.queue(entry)
        if (next(3) === 0) {
          const victim = entries[next(20)]!
          if (victim.queued) {
            assert.strictEqual(writer.remove(victim), "unwritten")
            kept.delete(victim.message.tag)
          }
        }
      }
      sink.full = false
      writer.flush()
      assert.deepStrictEqual(sink.messages.map(({ tag }) => tag).toSorted((a, b) => a - b), [...kept])
      assert.strictEqual(writer.size, 0)
      assert.strictEqual(writer.bytes, 0)
    }
  })

  it("tells once when nothing waits any more", async () => {
    const { sink, writer } = open()
    let told = 0
    writer.whenEmpty(() => told++)
    assert.strictEqual(told, 1)
    sink.full = true
    writer.send({ _tag: "Tping", tag: 1 })
    await turn()
    const last = writer.send({ _tag: "Tping", tag: 1 })
    writer.whenEmpty(() => told++)
    assert.strictEqual(told, 1)
    writer.remove(last)
    assert.strictEqual(told, 2)
    writer.send({ _tag: "Tping", tag: 1 })
    sink.full = false
    writer.drained()
    assert.strictEqual(told, 2)
  })

  it("drops what waits when it is closed, and tells of each message what became of it", async () => {
    const { sink, writer } = open()
    const first = writer.send(reply(2, none))
    writer.flush()
    const second = writer.send(reply(3, none))
    writer.whenEmpty(() => assert.fail("told"))
    writer.close()
    const third = writer.send(reply(4, none))
    await turn()
    writer.drained()
    assert.deepStrictEqual([first.written, second.written, third.written], ["written", "unwritten", "unwritten"])
    assert.strictEqual(sink.frames.length, 1)
    assert.strictEqual(writer.size, 0)
  })

  it("cuts what is queued already when the window is set", () => {
    const { sink, writer } = open()
    writer.send(reply(2, new Uint8Array(20)))
    writer.window = 10
    writer.send(reply(3, new Uint8Array(20)))
    writer.flush()
    assert.isTrue(sink.frames.every(({ body }) => body.length <= 10))
    assert.strictEqual(sink.messages.length, 2)
  })

  it("writes messages encoded as `encode` does", () => {
    const { sink, writer } = open()
    const message = reply(2, utf8("same"))
    writer.send(message)
    writer.flush()
    assert.strictEqual(toHex(sink.bytes), toHex(encode(message)))
    assert.deepStrictEqual(fromHex(toHex(sink.bytes)), encode(message))
  })
})

import { assert, describe, it } from "@effect/vitest"
import { decode, encode, FrameReader, type Message, MuxDecodeError } from "@scales-rpc/mux"
import { defaultLimits } from "../src/Message.ts"
import { fromHex, utf8, vectors } from "./vectors.ts"

const stream = Buffer.concat(vectors.map(({ hex }) => fromHex(hex)))
const expected = vectors.map(({ message }) => message)

const readAll = (chunks: Iterable<Uint8Array>, reader = new FrameReader()): Array<Message.Message> => {
  const messages: Array<Message.Message> = []
  for (const chunk of chunks) reader.push(chunk, (type, tag, body) => messages.push(decode(type, tag, body)))
  return messages
}

const refused = (bytes: Uint8Array, reader = new FrameReader()): MuxDecodeError => {
  try {
    reader.push(bytes, () => assert.fail("gave a frame"))
  } catch (error) {
    assert.instanceOf(error, MuxDecodeError)
    return error
  }
  assert.fail("was taken")
}

describe("FrameReader", () => {
  it("reads a stream of all messages, whole", () => {
    assert.deepStrictEqual(readAll([stream]), expected)
  })

  it("reads it split in two at every place", () => {
    for (let at = 0; at <= stream.length; at++) {
      assert.deepStrictEqual(readAll([stream.subarray(0, at), stream.subarray(at)]), expected, `split at ${at}`)
    }
  })

  it("reads it in chunks of every size from 1", () => {
    for (let size = 1; size < 64; size++) {
      const chunks: Array<Uint8Array> = []
      for (let at = 0; at < stream.length; at += size) chunks.push(stream.subarray(at, at + size))
      assert.deepStrictEqual(readAll(chunks), expected, `chunks of ${size}`)
    }
  })

  it("gives views of a chunk that holds the whole frame", () => {
    const reader = new FrameReader()
    reader.push(fromHex("0000000441"), () => {})
    const chunk = Buffer.concat([fromHex("000001"), encode({ _tag: "Rerr", tag: 1, why: "why" })])
    const bodies: Array<Uint8Array> = []
    reader.push(chunk, (_type, _tag, body) => bodies.push(body))
    assert.strictEqual(bodies.length, 2)
    assert.strictEqual(bodies[1]!.buffer, chunk.buffer)
  })

  it("does not touch a body again that it has given", () => {
    const reader = new FrameReader()
    const bodies: Array<Uint8Array> = []
    for (const text of ["first", "other"]) {
      for (const byte of encode({ _tag: "Rerr", tag: 1, why: text })) {
        reader.push(Uint8Array.of(byte), (_type, _tag, body) => bodies.push(body))
      }
    }
    assert.deepStrictEqual(bodies, [utf8("first"), utf8("other")])
  })

  it("refuses a size of 2^31-1 as soon as it is there, and has allocated nothing for it", () => {
    const before = process.memoryUsage().arrayBuffers
    const error = refused(fromHex("7fffffff"))
    assert.strictEqual(error.kind, "limit")
    assert.strictEqual(error.message, `frame of 2147483647 bytes, at most ${defaultLimits.messageBytes + 4}`)
    assert.isBelow(process.memoryUsage().arrayBuffers - before, 1 << 20)
    assert.strictEqual(refused(fromHex("7fffffff02000002")).kind, "limit")
    assert.strictEqual(refused(fromHex("ffffffff02000002")).kind, "limit")
  })

  it("refuses a size that has no room for type and tag", () => {
    for (const size of ["00000000", "00000003"]) {
      assert.match(refused(fromHex(size)).message, /^short message/)
      assert.match(refused(fromHex(`${size}00000000`)).message, /^short message/)
    }
  })

  it("takes a body of exactly the limit, and none longer", () => {
    const limits = { ...defaultLimits, messageBytes: 5 }
    assert.strictEqual(readAll([encode({ _tag: "Rerr", tag: 1, why: "12345" })], new FrameReader(limits)).length, 1)
    assert.strictEqual(refused(encode({ _tag: "Rerr", tag: 1, why: "123456" }), new FrameReader(limits)).kind, "limit")
  })

  it("does not reserve what a peer only announces", () => {
    const readers: Array<FrameReader> = []
    const before = process.memoryUsage().arrayBuffers
    for (let i = 0; i < 64; i++) {
      const reader = new FrameReader()
      reader.push(fromHex("010000000200000200"), () => {})
      readers.push(reader)
    }
    assert.isBelow(process.memoryUsage().arrayBuffers - before, 64 * 2 * 64 * 1024)
    assert.isTrue(readers.every(({ pending }) => pending === 9))
  })

  it("reads a megabyte one byte at a time, in time that grows with it and not with its square", () => {
    const frame = encode({ _tag: "Rreq", tag: 2, status: 0, body: new Uint8Array(1 << 20).fill(7) })
    const reader = new FrameReader()
    let body: Uint8Array | undefined
    for (let at = 0; at < frame.length; at++) reader.push(frame.subarray(at, at + 1), (_type, _tag, b) => body = b)
    assert.strictEqual(body!.length, (1 << 20) + 1)
    assert.strictEqual(body![1 << 20], 7)
    assert.strictEqual(reader.pending, 0)
  })
})

import { assert, describe, it } from "@effect/vitest"
import { WriteChunks } from "@scales-rpc/core/socket"
import * as Net from "node:net"
import { seeded } from "./support.ts"

/** Chunks for a sink that has taken what it was given, unless `slow`. */
const open = () => {
  const sink = { slow: false }
  return { sink, chunks: new WriteChunks(() => !sink.slow) }
}

/** Takes a chunk and writes it. */
const write = (chunks: WriteChunks, bytes = 10): Buffer => {
  const chunk = chunks.take(bytes)
  assert.strictEqual(chunk.length, bytes)
  chunks.written()
  return chunk
}

const overlap = (a: Buffer, b: Buffer): boolean =>
  a.buffer === b.buffer && a.byteOffset < b.byteOffset + b.length && b.byteOffset < a.byteOffset + a.length

describe("WriteChunks", () => {
  it("gives one chunk to all whose sinks take it at once", () => {
    const [one, other] = [open(), open()]
    write(one.chunks)
    write(other.chunks)
    const chunk = write(one.chunks, 100)
    assert.isTrue(overlap(chunk, write(one.chunks, 128 * 1024)))
    assert.isTrue(overlap(chunk, write(other.chunks)))
  })

  it("gives a sink that nothing is known of a chunk of its own", () => {
    const before = open()
    write(before.chunks)
    const chunk = write(before.chunks)
    assert.isFalse(overlap(chunk, write(open().chunks)))
  })

  it("leaves a chunk to a sink that holds it, and shares with that sink again once it takes at once", () => {
    const [one, other] = [open(), open()]
    write(one.chunks)
    write(other.chunks)
    one.sink.slow = true
    const held = write(one.chunks)
    const shared = write(other.chunks)
    assert.isFalse(overlap(held, shared))
    const next = write(one.chunks)
    assert.isFalse(overlap(next, held) || overlap(next, shared))
    one.sink.slow = false
    assert.isFalse(overlap(write(one.chunks), shared))
    assert.isTrue(overlap(write(one.chunks), shared))
    assert.isTrue(overlap(write(other.chunks), shared))
  })

  it("gives nobody what another has taken and not yet written", () => {
    const [one, other] = [open(), open()]
    write(one.chunks)
    write(other.chunks)
    const taken = one.chunks.take(10)
    assert.isFalse(overlap(taken, write(other.chunks)))
    one.chunks.written()
    assert.isTrue(overlap(taken, write(other.chunks)))
  })

  it("gives a longer write a chunk of its own", () => {
    const { chunks } = open()
    write(chunks)
    const shared = write(chunks)
    assert.isFalse(overlap(shared, write(chunks, 128 * 1024 + 1)))
    assert.isTrue(overlap(shared, write(chunks)))
  })

  it("changes nothing that a socket has yet to send, however late its peer reads", async () => {
    const random = seeded(3)
    const server = Net.createServer({ pauseOnConnect: true }).listen(0, "127.0.0.1")
    await new Promise((resolve) => server.once("listening", resolve))
    const accepted = new Promise<Net.Socket>((resolve) => server.once("connection", resolve))
    const socket = Net.connect((server.address() as Net.AddressInfo).port, "127.0.0.1")
    const peer = await accepted
    const received: Array<Buffer> = []
    let bytes = 0
    let waiting: (() => void) | undefined
    peer.on("data", (chunk: Buffer) => {
      received.push(chunk)
      bytes += chunk.length
      waiting?.()
    })
    peer.pause()
    const chunks = new WriteChunks(() => socket.writableLength === 0)
    const written: Array<Buffer> = []
    let sent = 0
    let quick = 0
    for (let round = 0; round < 3; round++) {
      // More than a kernel takes: the last ones are left to the socket, while others are filled.
      for (let late = 0; late < 20;) {
        const chunk = chunks.take(1 + Math.floor(random() * 128 * 1024)).fill(Math.floor(random() * 256))
        written.push(Buffer.from(chunk))
        sent += chunk.length
        socket.write(chunk)
        chunks.written()
        if (socket.writableLength === 0) quick++
        else late++
      }
      peer.resume()
      await new Promise<void>((resolve) => {
        waiting = () => {
          if (bytes === sent && socket.writableLength === 0) resolve()
        }
        socket.once("drain", waiting)
        waiting()
      })
      peer.pause()
    }
    assert.isAbove(quick, 20)
    assert.isTrue(Buffer.concat(received).equals(Buffer.concat(written)))
    socket.destroy()
    server.close()
  })
})

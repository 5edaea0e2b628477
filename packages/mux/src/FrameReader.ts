/** Cuts a stream of chunks into frames, without copying what lies whole in one chunk. */
import { MuxDecodeError } from "./CodecError.ts"
import { defaultLimits, type Limits } from "./Message.ts"

/** What a partial body is first given room for; it then doubles, so that a peer which only announces a large frame costs nothing. */
const firstRoom = 64 * 1024

/** Gets one frame: the signed type, the 24-bit tag (fragment bit included), and the body, a view that may be kept. */
export type OnFrame = (type: number, tag: number, body: Uint8Array) => void

/** The incoming side of one connection. Holds at most one frame, and of that only what has come. */
export class FrameReader {
  readonly #maxBody: number
  /** Size, type and tag of the frame that is coming, and how much of them is there. */
  readonly #header = new Uint8Array(8)
  #headerLength = 0
  #body = new Uint8Array(0)
  #bodyLength = 0
  /** Body bytes of the frame that is coming; -1 while its header is. */
  #expected = -1

  constructor(limits: Limits = defaultLimits) {
    this.#maxBody = limits.messageBytes
  }

  /** Bytes held of a frame that is not complete: 0 between frames. */
  get pending(): number {
    return this.#headerLength + this.#bodyLength
  }

  /**
   * Takes the next chunk and calls `onFrame` for each frame that is complete with it, in order. Throws `MuxDecodeError` for a
   * size field below 4 or above the limit, before anything is allocated for it; the stream cannot be read on after that.
   */
  push(chunk: Uint8Array, onFrame: OnFrame): void {
    let at = 0
    if (this.#headerLength > 0) {
      at = this.#resume(chunk, onFrame)
      if (at < 0) return
    }
    const buffer = chunk.buffer as ArrayBuffer
    const base = chunk.byteOffset
    const end = chunk.length
    while (end - at >= 8) {
      const length = this.#bodyOf(chunk, at)
      const start = at + 8
      if (end - start < length) break
      at = start + length
      onFrame(
        (chunk[start - 4]! << 24) >> 24,
        (chunk[start - 3]! << 16) | (chunk[start - 2]! << 8) | chunk[start - 1]!,
        chunk.subarray(start, start + length)
      )
    }
    if (at < end) this.#resume(at === 0 ? chunk : new Uint8Array(buffer, base + at, end - at), onFrame)
  }

  /** Continues the frame that is coming; gives the offset behind it, or -1 when the chunk ends before it does. */
  #resume(chunk: Uint8Array, onFrame: OnFrame): number {
    let at = 0
    while (this.#headerLength < 8) {
      if (at === chunk.length) return -1
      this.#header[this.#headerLength++] = chunk[at++]!
      if (this.#headerLength === 4) this.#bodyOf(this.#header, 0)
    }
    const header = this.#header
    if (this.#expected < 0) this.#expected = this.#bodyOf(header, 0)
    const expected = this.#expected
    const taken = Math.min(expected - this.#bodyLength, chunk.length - at)
    if (taken > 0) {
      this.#reserve(this.#bodyLength + taken)
      this.#body.set(new Uint8Array(chunk.buffer as ArrayBuffer, chunk.byteOffset + at, taken), this.#bodyLength)
      this.#bodyLength += taken
      at += taken
    }
    if (this.#bodyLength < expected) return -1
    const body = this.#body
    this.#body = new Uint8Array(0)
    this.#bodyLength = 0
    this.#headerLength = 0
    this.#expected = -1
    onFrame((header[4]! << 24) >> 24, (header[5]! << 16) | (header[6]! << 8) | header[7]!, body)
    return at
  }

  #reserve(length: number): void {
    if (length <= this.#body.length) return
    const room = Math.min(this.#expected, Math.max(length, firstRoom, 2 * this.#body.length))
    const grown = new Uint8Array(room)
    if (this.#bodyLength > 0) grown.set(new Uint8Array(this.#body.buffer, 0, this.#bodyLength))
    this.#body = grown
  }

  /** Body bytes of the frame whose size field is at `at`. */
  #bodyOf(bytes: Uint8Array, at: number): number {
    const size = ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0
    if (size < 4) {
      throw new MuxDecodeError({ kind: "frame", what: `short message: a frame of ${size} bytes, at least 4` })
    }
    if (size - 4 > this.#maxBody) {
      throw new MuxDecodeError({ kind: "limit", what: `frame of ${size} bytes, at most ${this.#maxBody + 4}` })
    }
    return size - 4
  }
}

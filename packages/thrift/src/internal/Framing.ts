/** Where one message ends and the next begins on a connection: the codec of both framings, for clients and servers. */
import { InvalidOption } from "@scales-rpc/core"
import * as Effect from "effect/Effect"
import { ThriftProtocolError } from "../errors.ts"
import type { Protocol } from "../Protocol.ts"
import { type MessageScanner, scannerOf } from "./MessageScanner.ts"

/**
 * How messages are told apart on a connection. `"framed"`: each has its length before it, 4 bytes, the most significant first.
 * `"buffered"`: they stand one behind the other, and the end of one is found by reading it; Apache calls it so in some languages, and
 * plain sockets in others.
 */
export type Framing = "framed" | "buffered"

/** Cuts the incoming side of one connection into messages. */
export interface Splitter {
  /** Bytes held of a message that is not complete: 0 between messages. */
  readonly pending: number
  /**
   * Takes the next chunk and calls `onMessage` for each message that is complete with it, in order, with a view that may be kept. Throws
   * `ThriftProtocolError` for a length or a beginning that is none and for a message over the limit, before anything is allocated for
   * it; the connection cannot be read on after that.
   */
  push(chunk: Uint8Array, onMessage: (message: Uint8Array) => void): void
}

/** What a partial message is first given room for; it then doubles, so that a peer which only announces a large one costs nothing. */
const firstRoom = 4 * 1024

const none = new Uint8Array(0)

const tooLarge = (bytes: number, most: number): never => {
  throw new ThriftProtocolError({
    reason: "SizeLimit",
    offset: 0,
    message: `a message of ${bytes} bytes, maxMessageBytes is ${most}`
  })
}

/** A copy of `held`'s first bytes with room for `needed`; `held` itself if it has that. */
const withRoom = (held: Uint8Array, length: number, needed: number, most: number): Uint8Array => {
  if (needed <= held.length) return held
  const grown = Buffer.allocUnsafeSlow(Math.max(needed, Math.min(most, Math.max(firstRoom, 2 * held.length))))
  grown.set(held.subarray(0, length))
  return grown
}

class FramedSplitter implements Splitter {
  readonly #maxBytes: number
  /** The length of the message that is coming: its bytes, how many are there, and once all are, what they say. */
  readonly #header = new Uint8Array(4)
  #headerLength = 0
  #expected = 0
  #held: Uint8Array = none
  #length = 0

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  get pending(): number {
    return this.#headerLength + this.#length
  }

  push(chunk: Uint8Array, onMessage: (message: Uint8Array) => void): void {
    const end = chunk.length
    let at = 0
    while (at < end) {
      if (this.#headerLength === 0 && end - at >= 4) {
        const length = this.#lengthAt(chunk, at)
        if (end - at - 4 >= length) {
          at += 4 + length
          onMessage(chunk.subarray(at - length, at))
          continue
        }
      }
      at = this.#resume(chunk, at, onMessage)
    }
  }

  /** Goes on with the message that is coming, from `at`; gives the offset behind what it took. */
  #resume(chunk: Uint8Array, from: number, onMessage: (message: Uint8Array) => void): number {
    let at = from
    while (this.#headerLength < 4) {
      if (at === chunk.length) return at
      this.#header[this.#headerLength++] = chunk[at++]!
      if (this.#headerLength === 4) this.#expected = this.#lengthAt(this.#header, 0)
    }
    const taken = Math.min(this.#expected - this.#length, chunk.length - at)
    if (taken > 0) {
      this.#held = withRoom(this.#held, this.#length, this.#length + taken, this.#expected)
      this.#held.set(chunk.subarray(at, at + taken), this.#length)
      this.#length += taken
      at += taken
    }
    if (this.#length < this.#expected) return at
    const message = this.#held.subarray(0, this.#length)
    this.#held = none
    this.#length = 0
    this.#headerLength = 0
    onMessage(message)
    return at
  }

  #lengthAt(bytes: Uint8Array, at: number): number {
    const length = bytes[at]! << 24 | bytes[at + 1]! << 16 | bytes[at + 2]! << 8 | bytes[at + 3]!
    if (length < 0) {
      throw new ThriftProtocolError({ reason: "NegativeSize", offset: 0, message: `a frame of ${length} bytes` })
    }
    return length > this.#maxBytes ? tooLarge(length, this.#maxBytes) : length
  }
}

class BufferedSplitter implements Splitter {
  readonly #maxBytes: number
  readonly #scanner: MessageScanner
  #held: Uint8Array = none
  #length = 0

  constructor(scanner: MessageScanner, maxBytes: number) {
    this.#scanner = scanner
    this.#maxBytes = maxBytes
  }

  get pending(): number {
    return this.#length
  }

  push(chunk: Uint8Array, onMessage: (message: Uint8Array) => void): void {
    let bytes = chunk
    let end = chunk.length
    if (this.#length > 0) {
      end = this.#length + chunk.length
      bytes = this.#held = withRoom(this.#held, this.#length, end, this.#maxBytes)
      bytes.set(chunk, this.#length)
      this.#length = end
    }
    let at = 0
    while (at < end) {
      const length = this.#scanner.scan(bytes, at, end)
      if (length > this.#maxBytes || (length < 0 && end - at > this.#maxBytes)) {
        tooLarge(Math.max(length, end - at), this.#maxBytes)
      }
      if (length < 0) return this.#keep(bytes, at, end)
      this.#scanner.reset()
      at += length
      onMessage(bytes.subarray(at - length, at))
    }
    this.#held = none
    this.#length = 0
  }

  /** What is held is never part of a message that was given out: that may be kept, and is not to change. */
  #keep(bytes: Uint8Array, at: number, end: number): void {
    if (bytes === this.#held && at === 0) return
    this.#length = end - at
    this.#held = withRoom(none, 0, end - at, this.#maxBytes)
    this.#held.set(bytes.subarray(at, end))
  }
}

/**
 * The incoming side of one connection. `maxBytes` is what one message may have, `maxDepth` how many structs may be inside each
 * other; over `"buffered"` the protocol has to be one of `Protocols` (`checkedFraming` sees to it).
 */
export const splitter = (framing: Framing, protocol: Protocol, maxBytes: number, maxDepth = 64): Splitter => {
  if (framing === "framed") return new FramedSplitter(maxBytes)
  const scanner = scannerOf(protocol.name, maxBytes, maxDepth)
  if (scanner === undefined) throw new TypeError(`messages of protocol ${protocol.name} cannot be told apart`)
  return new BufferedSplitter(scanner, maxBytes)
}

/** Longer parts are written as they are: a copy would cost more than another chunk. */
const copyLimit = 64 * 1024

/**
 * What goes on the wire for a message that is given in parts: one chunk unless a part is large. The parts must not change after. `take` makes
 * the chunk that the smaller ones are copied to.
 */
export const chunksIn = (
  take: (bytes: number) => Buffer,
  framing: Framing,
  ...parts: ReadonlyArray<Uint8Array>
): ReadonlyArray<Uint8Array> => {
  if (framing === "buffered" && parts.length === 1) return parts
  const header = framing === "framed" ? 4 : 0
  let length = 0
  let copied = header
  for (const part of parts) {
    length += part.length
    if (part.length <= copyLimit) copied += part.length
  }
  const batch = take(copied)
  if (header > 0) batch.writeInt32BE(length)
  let at = header
  if (copied === header + length) {
    for (const part of parts) {
      batch.set(part, at)
      at += part.length
    }
    return [batch]
  }
  const chunks: Array<Uint8Array> = []
  let from = 0
  for (const part of parts) {
    if (part.length > copyLimit) {
      if (at > from) chunks.push(batch.subarray(from, at))
      from = at
      chunks.push(part)
    } else {
      batch.set(part, at)
      at += part.length
    }
  }
  if (at > from) chunks.push(batch.subarray(from, at))
  return chunks
}

/** The same in chunks of its own. */
export const chunksOf = (framing: Framing, ...parts: ReadonlyArray<Uint8Array>): ReadonlyArray<Uint8Array> =>
  chunksIn((bytes) => Buffer.allocUnsafe(bytes), framing, ...parts)

/** The framing that was asked for, framed by default, if it can carry the protocol. */
export const checkedFraming = (
  framing: Framing | undefined,
  protocol: Protocol
): Effect.Effect<Framing, InvalidOption> => {
  if (framing !== undefined && framing !== "framed" && framing !== "buffered") {
    return Effect.fail(
      new InvalidOption({ option: "framing", got: framing, expected: `"framed" or "buffered"` })
    )
  }
  return framing === "buffered" && scannerOf(protocol.name, 0, 0) === undefined
    ? Effect.fail(
      new InvalidOption({ option: "framing", got: framing, expected: `"framed" with the protocol ${protocol.name}` })
    )
    : Effect.succeed(framing ?? "framed")
}

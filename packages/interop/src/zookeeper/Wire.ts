/** What goes over ZooKeeper's wire, as far as the proxy reads it and the client of the cases speaks it. */

/** Types of requests. */
export const Op = {
  create: 1,
  delete: 2,
  exists: 3,
  get: 4,
  set: 5,
  acl: 6,
  setAcl: 7,
  children: 8,
  sync: 9,
  ping: 11,
  children2: 12,
  auth: 100,
  setWatches: 101,
  setWatches2: 105,
  close: -11
} as const

/** The xid of what comes unasked: watches that fired. */
export const watchXid = -1

/** Writes numbers, texts and buffers one after the other. */
export class Writer {
  readonly #parts: Array<Buffer> = []

  int(value: number): this {
    const bytes = Buffer.alloc(4)
    bytes.writeInt32BE(value)
    this.#parts.push(bytes)
    return this
  }

  long(value: bigint): this {
    const bytes = Buffer.alloc(8)
    bytes.writeBigInt64BE(value)
    this.#parts.push(bytes)
    return this
  }

  bool(value: boolean): this {
    this.#parts.push(Buffer.from([value ? 1 : 0]))
    return this
  }

  buffer(bytes: Uint8Array): this {
    this.int(bytes.length)
    this.#parts.push(Buffer.from(bytes))
    return this
  }

  text(value: string): this {
    return this.buffer(Buffer.from(value))
  }

  /** All of it with its size in front. */
  frame(): Buffer {
    const body = Buffer.concat(this.#parts)
    const size = Buffer.alloc(4)
    size.writeInt32BE(body.length)
    return Buffer.concat([size, body])
  }
}

/** Reads them again. */
export class Reader {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  int(): number {
    this.#at += 4
    return this.#bytes.readInt32BE(this.#at - 4)
  }

  long(): bigint {
    this.#at += 8
    return this.#bytes.readBigInt64BE(this.#at - 8)
  }

  /** A buffer that is none has the length -1. */
  buffer(): Buffer {
    const length = Math.max(0, this.int())
    this.#at += length
    return this.#bytes.subarray(this.#at - length, this.#at)
  }

  text(): string {
    return this.buffer().toString()
  }
}

/** Cuts a stream of bytes into frames, each with its size in front. */
export class Frames {
  #rest: Buffer = Buffer.alloc(0)

  push(chunk: Buffer): ReadonlyArray<Buffer> {
    this.#rest = Buffer.concat([this.#rest, chunk])
    const whole: Array<Buffer> = []
    while (this.#rest.length >= 4 && this.#rest.length >= 4 + this.#rest.readInt32BE(0)) {
      const length = 4 + this.#rest.readInt32BE(0)
      whole.push(this.#rest.subarray(0, length))
      this.#rest = this.#rest.subarray(length)
    }
    return whole
  }
}

/** Reads a frame, from behind its size on. */
export const read = (frame: Buffer): Reader => new Reader(frame.subarray(4))

/** A session as the server granted it: who knows both can take it over, and close it. */
export interface Granted {
  readonly id: bigint
  readonly password: Buffer
  /** In milliseconds; 0: there is no such session any more. */
  readonly timeout: number
}

/** The first frame of a client: it asks for a new session, or to go on with one. */
export const connectRequest = (timeout: number, session?: Granted): Buffer =>
  new Writer()
    .int(0)
    .long(0n)
    .int(timeout)
    .long(session?.id ?? 0n)
    .buffer(session?.password ?? Buffer.alloc(16))
    .bool(false)
    .frame()

/** The first frame of a server. */
export const granted = (frame: Buffer): Granted => {
  const reader = read(frame)
  reader.int()
  return { timeout: reader.int(), id: reader.long(), password: Buffer.from(reader.buffer()) }
}

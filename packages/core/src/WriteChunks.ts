/**
 * What the connections of a process write from: one chunk that all share, as a socket takes what it is given at once unless its peer is
 * slow. With a new chunk for every write V8 counted so much memory outside of its heap that after some seconds each collection was a full one:
 * 15 us for a call of 4 KiB over mux and 23 over framed Thrift, 9.5 and 15.5 with this (Node 24.21, 64 in flight).
 */

/** Longer writes have chunks of their own. */
const sharedBytes = 128 * 1024

/** `undefined` while a sink holds it, and before the first. */
let shared: Buffer | undefined

/** The chunks of one connection. */
export class WriteChunks {
  readonly #taken: () => boolean
  /** The last write was taken at once; it is expected of the next one too. */
  #quick = false
  #lent: Buffer | undefined

  /** `taken` says that the sink holds nothing of what it was given: `writableLength === 0` of a socket. */
  constructor(taken: () => boolean) {
    this.#taken = taken
  }

  /** A chunk to fill and to write in this turn; `written` comes before the next. */
  readonly take = (bytes: number): Buffer => {
    if (!this.#quick || bytes > sharedBytes) return Buffer.allocUnsafe(bytes)
    const lent = this.#lent = shared ?? Buffer.allocUnsafeSlow(sharedBytes)
    shared = undefined
    return lent.subarray(0, bytes)
  }

  /** What was taken has been given to the sink: a chunk that this holds is its own from now on. */
  written(): void {
    this.#quick = this.#taken()
    if (this.#quick && this.#lent !== undefined) shared = this.#lent
    this.#lent = undefined
  }
}

/** The two ends of a connection in memory, as Node's sockets are from outside, and the wires between them. */
import { Duplex } from "node:stream"
import { CallAt, type Deadlines, type Timer } from "../Deadlines.ts"

/** Bytes that a wire takes before its writer has to wait: what the buffers of a kernel would hold. */
const capacity = 64 * 1024

/** An error as the operating system gives it. */
export const systemError = (code: string, what: string): Error =>
  Object.assign(new Error(`${what} ${code}`), { code, syscall: what })

/** What is under way: bytes, the end of them, or a reset. */
interface Parcel {
  readonly chunk: Buffer | "end" | "reset"
  readonly due: number
  /** Tells its writer that it may go on; `undefined`: it has been told. */
  taken: (() => void) | undefined
}

/** How much has happened on a network: counted so that one can see whether it is at rest. */
export interface Traffic {
  moves: number
}

/** One direction of a connection. Nothing arrives while it is being sent. */
export class Wire {
  /** Bytes that have arrived. */
  bytes = 0
  /** Bytes that have been sent and have not arrived. */
  inFlight = 0
  stalled = false
  delayMillis: number
  readonly #deadlines: Deadlines
  readonly #traffic: Traffic
  readonly #taps = new Set<(chunk: Uint8Array) => void>()
  #parcels: Array<Parcel> = []
  #hurried = false
  #receiver: MemorySocket | undefined
  #sender: MemorySocket | undefined
  /** The receiver has asked for more. */
  #wanted = true
  #scheduled = false
  #timer: Timer | undefined

  constructor(deadlines: Deadlines, traffic: Traffic, delayMillis: number) {
    this.#deadlines = deadlines
    this.#traffic = traffic
    this.delayMillis = delayMillis
  }

  join(sender: MemorySocket, receiver: MemorySocket): void {
    this.#sender = sender
    this.#receiver = receiver
  }

  readonly onChunk = (f: (chunk: Uint8Array) => void): () => void => {
    const tap = (chunk: Uint8Array) => f(chunk)
    this.#taps.add(tap)
    return () => void this.#taps.delete(tap)
  }

  stall(): void {
    this.stalled = true
  }

  resume(): void {
    this.stalled = false
    this.#schedule()
  }

  /** What is under way arrives, whatever has kept it, and nothing is kept any more. */
  hurry(): void {
    this.#hurried = true
    if (this.#timer !== undefined) this.#deadlines.remove(this.#timer)
    this.#timer = undefined
    this.resume()
  }

  send(bytes: Uint8Array, taken: () => void): void {
    // Its writer may use the bytes again when it has been told that they are taken, which is before they have arrived.
    const chunk = Buffer.from(bytes)
    for (const tap of this.#taps) tap(chunk)
    this.#traffic.moves++
    this.inFlight += chunk.length
    const parcel: Parcel = { chunk, due: this.#deadlines.now() + this.delayMillis, taken }
    this.#parcels.push(parcel)
    this.#admit()
    this.#schedule()
  }

  /** The sender sends no more, or has cut the connection: what it had sent is then lost. */
  end(how: "end" | "reset" = "end"): void {
    if (how === "reset") this.drop()
    this.#traffic.moves++
    this.#parcels.push({ chunk: how, due: this.#deadlines.now() + this.delayMillis, taken: undefined })
    this.#schedule()
  }

  /** The receiver takes more. */
  want(): void {
    this.#wanted = true
    this.#schedule()
  }

  /** Nothing that is under way arrives any more. */
  drop(): void {
    const parcels = this.#parcels
    this.#parcels = []
    this.inFlight = 0
    if (this.#timer !== undefined) this.#deadlines.remove(this.#timer)
    this.#timer = undefined
    for (const { taken } of parcels) taken?.()
  }

  /** Tells writers that their bytes are taken, as far as there is room. */
  #admit(): void {
    let before = 0
    for (const parcel of this.#parcels) {
      if (before >= capacity) return
      before += parcel.chunk.length
      const { taken } = parcel
      parcel.taken = undefined
      taken?.()
    }
  }

  #schedule(): void {
    if (this.#scheduled || this.stalled || this.#parcels.length === 0) return
    this.#scheduled = true
    queueMicrotask(() => {
      this.#scheduled = false
      this.#deliver()
    })
  }

  #deliver(): void {
    if (this.stalled || !this.#wanted || this.#timer !== undefined) return
    const parcel = this.#parcels[0]
    if (parcel === undefined) return
    const now = this.#deadlines.now()
    if (parcel.due > now && !this.#hurried) {
      this.#timer = new CallAt(parcel.due, () => {
        this.#timer = undefined
        this.#deliver()
      })
      return this.#deadlines.add(this.#timer, now)
    }
    this.#parcels.shift()
    this.#arrive(parcel)
    this.#admit()
    this.#schedule()
  }

  #arrive({ chunk, taken }: Parcel): void {
    taken?.()
    this.#traffic.moves++
    const receiver = this.#receiver!
    if (chunk === "reset") return receiver.reset()
    if (chunk === "end") {
      if (!receiver.destroyed) receiver.push(null)
      return
    }
    this.inFlight -= chunk.length
    // Nobody is there any more: the sender is told as a kernel would tell it.
    if (receiver.destroyed) return this.#sender!.reset()
    this.bytes += chunk.length
    receiver.bytesRead += chunk.length
    this.#wanted = receiver.push(chunk)
  }
}

/** Where one end of a connection is. */
export interface Place {
  readonly address: string | undefined
  readonly port: number | undefined
}

/** One end of a connection. Before it is joined to another it is connecting. */
export class MemorySocket extends Duplex {
  connecting = true
  remoteAddress: string | undefined
  remotePort: number | undefined
  localAddress: string | undefined
  localPort: number | undefined
  readonly remoteFamily = "IPv4"
  /** Bytes that have come. */
  bytesRead = 0
  #written = 0
  #out: Wire | undefined
  #in: Wire | undefined
  /** It said so with a reset: there is no end to be sent. */
  #cut = false
  #unsent: (() => void) | undefined

  constructor(options: { readonly allowHalfOpen: boolean }) {
    super({ allowHalfOpen: options.allowHalfOpen, highWaterMark: 64 * 1024 })
  }

  /** Joins it to its peer. */
  join(peer: MemorySocket, wires: { readonly out: Wire; readonly in: Wire }, local: Place, remote: Place): void {
    this.connecting = false
    this.#out = wires.out
    this.#in = wires.in
    wires.out.join(this, peer)
    this.localAddress = local.address
    this.localPort = local.port
    this.remoteAddress = remote.address
    this.remotePort = remote.port
    const unsent = this.#unsent
    this.#unsent = undefined
    unsent?.()
  }

  /** The peer, or what is between, has cut the connection. */
  reset(): void {
    if (this.destroyed) return
    this.#in?.drop()
    this.destroy(systemError("ECONNRESET", "read"))
  }

  /** Cuts the connection with a reset. */
  resetAndDestroy(): this {
    if (!this.destroyed) this.#out?.end("reset")
    this.#cut = true
    return this.destroy()
  }

  /** Ends it once all that was written has left. */
  destroySoon(): void {
    if (this.writable) this.end()
    if (this.writableFinished) this.destroy()
    else this.once("finish", () => this.destroy())
  }

  /** Bytes that were written, those that still wait here included. */
  get bytesWritten(): number {
    return this.#written + this.writableLength
  }

  setNoDelay(): this {
    return this
  }

  setKeepAlive(): this {
    return this
  }

  setTimeout(): this {
    return this
  }

  ref(): this {
    return this
  }

  unref(): this {
    return this
  }

  override _write(chunk: Uint8Array, _: BufferEncoding, done: () => void): void {
    const { length } = chunk
    const taken = () => {
      this.#written += length
      done()
    }
    if (this.#out === undefined) this.#unsent = () => this.#out!.send(chunk, taken)
    else this.#out.send(chunk, taken)
  }

  override _final(done: () => void): void {
    const end = () => {
      this.#out!.end()
      done()
    }
    if (this.#out === undefined) this.#unsent = end
    else end()
  }

  override _read(): void {
    this.#in?.want()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    // What has left still arrives, and then the end.
    if (!this.#cut && !this.writableFinished) this.#out?.end()
    done(error)
  }
}

/** What a session has written, for the model at the other end to read when a schedule says so; each frame is looked at on the way. */
import { decode, Fragments, FrameReader, Message } from "@scales-rpc/mux"
import { must } from "./explore.ts"

/** One message, with what its first frame says of how it came. */
export interface Read {
  readonly message: Message.Message
  /** It came in fragments. */
  readonly cut: boolean
}

/** The bytes of one direction. */
export class Wire {
  full = false
  /** Nothing may be written any more. */
  ended = false
  /** Writes that came after the end. */
  late = 0
  /** The longest body that a fragment may have. */
  window = 0x7fffffff
  /** Tags of which some fragments have been read, and the last has not. */
  readonly partial = new Set<number>()
  #chunks: Array<Uint8Array> = []
  readonly #reader = new FrameReader()
  readonly #fragments = new Fragments()

  readonly write = (chunk: Uint8Array): boolean => {
    if (this.ended) this.late++
    this.#chunks.push(chunk)
    return !this.full
  }

  /** Bytes that no `read` has taken. */
  get unread(): number {
    return this.#chunks.length
  }

  /** Gives every message that is whole with what has been written. */
  read(onMessage: (message: Message.Message) => void, onFragment: (tag: number) => void): void {
    const chunks = this.#chunks
    this.#chunks = []
    for (const chunk of chunks) {
      this.#reader.push(chunk, (type, tagBits, frame) => {
        const tag = tagBits & Message.maxTag
        const dispatch = type === Message.Type.Tdispatch || type === Message.Type.Rdispatch
        must(!dispatch || frame.length <= this.window, () => `${frame.length} bytes of ${type}, window ${this.window}`)
        if (tagBits !== tag) {
          must(frame.length > 0, () => `an empty fragment on tag ${tag}`)
          onFragment(tag)
          this.partial.add(tag)
        }
        const body = this.#fragments.push(type, tagBits, frame)
        if (body === undefined) return
        const message = decode(type, tag, body)
        onMessage(message)
        if (dispatch) this.partial.delete(tag)
      })
    }
  }
}

const nothing = new Uint8Array(0)

/** A whole frame in fragments with bodies of `size` bytes; one that is no longer stays one. */
export const cut = (frame: Uint8Array, size: number): Array<Uint8Array> => {
  const body = frame.subarray(8)
  const type = frame[4]!
  const tag = (frame[5]! << 16) | (frame[6]! << 8) | frame[7]!
  const frames: Array<Uint8Array> = []
  for (let at = 0; at < body.length || frames.length === 0;) {
    const slice = body.length === 0 ? nothing : body.subarray(at, at + size)
    at += slice.length
    const part = Buffer.alloc(8 + slice.length)
    part.writeUInt32BE(4 + slice.length)
    part[4] = type
    part.writeUIntBE(at < body.length ? tag | Message.fragmentBit : tag, 5, 3)
    part.set(slice, 8)
    frames.push(part)
    if (body.length === 0) break
  }
  return frames
}

/** The window header of a Tinit or Rinit. */
export const windowHeader = (window: number): ReadonlyArray<Message.Pair> => {
  const value = Buffer.alloc(4)
  value.writeInt32BE(window)
  return [[new TextEncoder().encode("mux-framer"), value]]
}

/** Frames that end a session: a reader must not go on behind them. */
export const garbage: ReadonlyArray<string> = [
  // A size below 4, and one beyond every limit.
  "0000000300000000",
  "7fffffff02000002",
  // A type that nobody knows, and a discard without a tag.
  "0000000405000002",
  "00000005c200000000",
  // A fragment of what only goes whole.
  "0000000541800001ff",
  // A request whose context ends early, a reply with a status that is none.
  "00000008027ffff0000100ff",
  "00000007fe7ffff0090000"
]

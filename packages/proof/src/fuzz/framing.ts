/** The cutting of a Thrift connection into messages, whatever pieces its bytes come in. */
import { type ProtocolReader, Protocols, ThriftProtocolError } from "@scales-rpc/thrift"
import { getHeapStatistics } from "node:v8"
import { chunksOf, type Framing, splitter } from "../../../thrift/src/internal/Framing.ts"
import { Type } from "../../../thrift/src/Protocol.ts"
import { Numbers } from "./mutate.ts"
import type { Target } from "./target.ts"
import { thriftMessages } from "./thriftMessages.ts"

const framings: ReadonlyArray<Framing> = ["framed", "buffered"]
const protocols = [Protocols.binary, Protocols.binaryOld, Protocols.compact, Protocols.json]
/** The default, which lets a peer announce a lot, and one that the corpus passes. */
const limits = [104_857_600, 300]

/** What a connection is spoken in. The first byte of an input chooses. */
const spoken = limits.flatMap((maxBytes) =>
  framings.flatMap((framing) =>
    protocols.map((protocol) => ({
      framing,
      protocol,
      maxBytes,
      reader: protocol.reader({ maxMessageBytes: maxBytes })
    }))
  )
)

/** For each of them, some messages behind each other; not as often with the lower limit, which ends most of these streams. */
const corpus: ReadonlyArray<Uint8Array> = spoken.flatMap(({ framing, maxBytes, protocol }, choice) => {
  const messages = thriftMessages(protocol)
  return messages.filter((_, index) => maxBytes === limits[0] || index % 4 === 0).map((from) => {
    const first = messages.indexOf(from)
    const several = [0, 1].map((i) => messages[(first + i) % messages.length]!)
    return Uint8Array.from(
      Buffer.concat([Uint8Array.of(choice), ...several.flatMap((message) => chunksOf(framing, message))])
    )
  })
})

/** What a connection was cut into. */
interface Cut {
  readonly messages: ReadonlyArray<Uint8Array>
  /** Bytes of a message that is not complete. */
  readonly pending: number
  readonly refused: ThriftProtocolError | undefined
}

const cut = ({ framing, maxBytes, protocol }: typeof spoken[number], pieces: Iterable<Uint8Array>): Cut => {
  const messages: Array<Uint8Array> = []
  const split = splitter(framing, protocol, maxBytes)
  let refused: ThriftProtocolError | undefined
  try {
    for (const piece of pieces) split.push(piece, (message) => messages.push(message))
  } catch (error) {
    if (!(error instanceof ThriftProtocolError)) throw error
    refused = error
  }
  return { messages, pending: split.pending, refused }
}

/** What the buffers of both readings may have in bytes: the first room for each piece is far below. */
const mostAllocated = 1024 * 1024

/** Most often a few pieces; a short stream now and then byte by byte. They depend on the bytes alone, so that an input repeats. */
function* piecesOf(bytes: Uint8Array): Generator<Uint8Array> {
  let seed = bytes.length
  for (let i = 0; i < bytes.length; i += 4) seed = Math.imul(seed ^ bytes[i]!, 0x01000193)
  const numbers = new Numbers(seed)
  const most = numbers.below(32) === 0 ? 1 : numbers.of([16, bytes.length, bytes.length])
  for (let at = 0; at < bytes.length;) {
    // What a socket gives is used again by nobody, so a splitter may keep it: each piece is a view
    const to = at + 1 + numbers.below(Math.max(most, bytes.length >> 6))
    yield bytes.subarray(at, to)
    at = to
  }
}

const describe = ({ messages, pending, refused }: Cut): string =>
  `${messages.map(({ length }) => length).join(" ")}; ${
    refused === undefined ? `${pending} pending` : `${refused.reason}: ${refused.message}`
  }`

/** The bytes of one message at the beginning of these; `undefined` if there is none. */
const messageAt = (reader: ProtocolReader, bytes: Uint8Array): number | undefined => {
  try {
    reader.reset(bytes).readMessageBegin()
    reader.skip(Type.STRUCT)
    reader.readMessageEnd()
    return reader.position
  } catch (error) {
    if (!(error instanceof ThriftProtocolError)) throw error
    return undefined
  }
}

/** Several messages in one piece and in many: the same messages, which are the stream, and the same end. */
export const framing: Target = {
  name: "framing",
  corpus,
  run: (bytes) => {
    const { [(bytes[0] ?? 0) % spoken.length]: speech } = spoken
    const { framing, maxBytes, reader } = speech!
    const stream = bytes.subarray(1)
    const before = getHeapStatistics().external_memory
    const whole = cut(speech!, [stream])
    const parts = cut(speech!, piecesOf(stream))
    // The limit of the heap does not count buffers: a peer that only announces a large message would be given the room for it
    const allocated = getHeapStatistics().external_memory - before
    if (allocated > mostAllocated + 64 * stream.length) {
      throw new Error(`${allocated} bytes of buffers for ${stream.length}`)
    }
    const { messages } = whole
    let at = 0
    const same = messages.length === parts.messages.length && messages.every((message, index) => {
      if (framing === "framed") at += 4
      const there = Buffer.compare(message, stream.subarray(at, at + message.length)) === 0
      at += message.length
      return there && Buffer.compare(message, parts.messages[index]!) === 0
    })
    // A message that is too long and wrong as well is refused for the one that is seen first
    const sameEnd = whole.refused?.reason === parts.refused?.reason
      ? whole.refused !== undefined || whole.pending === parts.pending && at + whole.pending === stream.length
      : whole.refused?.reason === "SizeLimit" && parts.refused !== undefined ||
        parts.refused?.reason === "SizeLimit" && whole.refused !== undefined
    if (!same || !sameEnd) throw new Error(`in one piece ${describe(whole)}, in many ${describe(parts)}`)
    if (framing === "buffered") {
      for (const message of messages) {
        const length = messageAt(reader, message)
        if (length !== undefined && length !== message.length) {
          throw new Error(`a message was cut behind ${message.length} bytes and read behind ${length}`)
        }
      }
      const length = at === stream.length ? undefined : messageAt(reader, stream.subarray(at, at + maxBytes))
      if (length !== undefined) throw new Error(`a message of ${length} bytes was not cut: ${describe(whole)}`)
    }
    return [messages, whole.pending]
  }
}

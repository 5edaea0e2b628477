/**
 * The messages of Twitter's upgrade of plain Thrift, from the client's side: the question whether the server knows it, the header before
 * each request, the header before each reply. Names, ids and types are those of Finagle's structs.
 */
import {
  type Attempt,
  ClientId,
  Destination,
  Dtab,
  outboundTrace,
  randomId,
  Trace,
  type TraceId
} from "@scales-rpc/core"
import { ThriftProtocolError } from "../errors.ts"
import { MessageType, type ProtocolReader, type ProtocolWriter, Type } from "../Protocol.ts"

/** The method that asks for the upgrade: a server that answers it with a result takes and sends headers from then on. */
export const upgradeMethod = "__can__finagle__trace__v3__"

const utf8 = new TextEncoder()

/** The contexts that are not in a call's context: until when the reply is of use, and which attempt this is. */
const deadlineId = "com.twitter.finagle.Deadline"
const retriesId = "com.twitter.finagle.Retries"

/** Entries that have a place of their own. */
const placed = new Set([ClientId, Trace, Destination, Dtab].map(({ id }) => id.toLowerCase()))
for (const id of [deadlineId, retriesId]) placed.add(id.toLowerCase())

type Pair = readonly [key: Uint8Array, value: Uint8Array]

/** Flags of a trace that say whether it is sampled: in a header they have a field of their own. */
const samplingKnown = 2n
const sampled = 4n

const maxNanos = 2n ** 63n - 1n

/** Milliseconds as nanoseconds. */
const nanosOf = (millis: number): bigint => {
  const nanos = Number.isFinite(millis) ? BigInt(Math.floor(millis)) * 1_000_000n : maxNanos
  return nanos > maxNanos ? maxNanos : nanos
}

const deadlineBytes = (now: number, deadline: number): Uint8Array => {
  const bytes = Buffer.alloc(16)
  bytes.writeBigInt64BE(nanosOf(now), 0)
  bytes.writeBigInt64BE(nanosOf(deadline), 8)
  return bytes
}

const retriesBytes = (attempt: number): Uint8Array => {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(attempt)
  return bytes
}

/** The contexts of an attempt, in Finagle's order. */
const contextsOf = (
  { context, deadline, number }: Attempt,
  clientId: string | undefined,
  trace: TraceId | undefined,
  now: number
): Array<Pair> => {
  const pairs: Array<Pair> = []
  if (trace !== undefined) pairs.push([utf8.encode(Trace.id), Trace.encode!(trace)])
  pairs.push([utf8.encode(retriesId), retriesBytes(number)])
  if (deadline !== Infinity) pairs.push([utf8.encode(deadlineId), deadlineBytes(now, deadline)])
  for (const { key, value } of context) {
    if (key.encode === undefined || placed.has(key.id.toLowerCase())) continue
    pairs.push([utf8.encode(key.id), key.encode(value)])
  }
  if (clientId !== undefined) pairs.push([utf8.encode(ClientId.id), utf8.encode(clientId)])
  return pairs
}

/** Writes and reads them with the protocol of the connection. */
export class UpgradeCodec {
  readonly #writer: ProtocolWriter
  readonly #clientId: string | undefined
  readonly #random: () => number

  /** `random` gives numbers from 0 to 1, for trace ids. */
  constructor(writer: ProtocolWriter, clientId: string | undefined, random: () => number) {
    this.#writer = writer
    this.#clientId = clientId
    this.#random = random
  }

  /** The call that asks for the upgrade; its options are none so far. */
  offer(): Uint8Array {
    const writer = this.#writer
    writer.reset()
    writer.writeMessageBegin(upgradeMethod, MessageType.CALL, 0)
    writer.writeStructBegin("ConnectionOptions")
    writer.writeFieldStop()
    writer.writeStructEnd()
    writer.writeMessageEnd()
    return writer.take()
  }

  /** Whether the server knows it. One that does not says that it has no such method. Throws `ThriftProtocolError`. */
  accepted(reader: ProtocolReader, message: Uint8Array): boolean {
    const { fname, mtype } = reader.reset(message).readMessageBegin()
    if (mtype === MessageType.EXCEPTION) return false
    if (mtype === MessageType.REPLY && fname === upgradeMethod) return true
    throw new ThriftProtocolError({
      reason: "UnexpectedMessage",
      offset: reader.position,
      message: `a message of type ${mtype} for ${fname.slice(0, 100)} in answer to ${upgradeMethod}`
    })
  }

  /** What comes behind the header of a reply. Throws `ThriftProtocolError`. */
  replyBody(reader: ProtocolReader, message: Uint8Array): Uint8Array {
    reader.reset(message).skip(Type.STRUCT)
    return message.subarray(reader.position)
  }

  /** What goes before a request. Throws `ThriftEncodeError`. */
  requestHeader(attempt: Attempt, now: number): Uint8Array {
    const { context } = attempt
    const clientId = this.#clientId ?? context.get(ClientId)
    // Without a trace around it, one begins here: a server takes what is missing for the trace 0
    const trace = outboundTrace(attempt, this.#random)
    const spanId = trace?.spanId ?? randomId(this.#random)
    const writer = this.#writer
    writer.reset()
    writer.writeStructBegin("RequestHeader")
    this.#i64(1, "trace_id", trace?.traceId ?? spanId)
    this.#i64(2, "span_id", spanId)
    if (trace !== undefined) this.#i64(3, "parent_span_id", trace.parentId)
    if (trace !== undefined && (trace.flags & samplingKnown) !== 0n) {
      writer.writeFieldBegin("sampled", Type.BOOL, 5)
      writer.writeBool((trace.flags & sampled) !== 0n)
      writer.writeFieldEnd()
    }
    if (clientId !== undefined) {
      writer.writeFieldBegin("client_id", Type.STRUCT, 6)
      writer.writeStructBegin("ClientId")
      this.#string(1, "name", clientId)
      this.#endStruct()
      writer.writeFieldEnd()
    }
    this.#i64(7, "flags", trace === undefined ? 0n : trace.flags & ~(samplingKnown | sampled))
    this.#structs(8, "contexts", contextsOf(attempt, clientId, trace, now), ([key, value]) => {
      writer.writeFieldBegin("key", Type.STRING, 1)
      writer.writeBinary(key)
      writer.writeFieldEnd()
      writer.writeFieldBegin("value", Type.STRING, 2)
      writer.writeBinary(value)
      writer.writeFieldEnd()
    })
    const destination = context.get(Destination)
    if (destination !== undefined) this.#string(9, "dest", destination)
    const dtab = context.get(Dtab)
    if (dtab !== undefined && dtab.length > 0) {
      this.#structs(10, "delegations", dtab, ({ prefix, tree }) => {
        this.#string(1, "src", prefix)
        this.#string(2, "dst", tree)
      })
    }
    if (trace?.traceIdHigh !== undefined) this.#i64(11, "trace_id_high", trace.traceIdHigh)
    this.#endStruct()
    return writer.take()
  }

  #i64(id: number, name: string, value: bigint): void {
    this.#writer.writeFieldBegin(name, Type.I64, id)
    this.#writer.writeI64(BigInt.asIntN(64, value))
    this.#writer.writeFieldEnd()
  }

  #string(id: number, name: string, value: string): void {
    this.#writer.writeFieldBegin(name, Type.STRING, id)
    this.#writer.writeString(value)
    this.#writer.writeFieldEnd()
  }

  #structs<A>(id: number, name: string, values: ReadonlyArray<A>, write: (value: A) => void): void {
    const writer = this.#writer
    writer.writeFieldBegin(name, Type.LIST, id)
    writer.writeListBegin(Type.STRUCT, values.length)
    for (const value of values) {
      writer.writeStructBegin(name)
      write(value)
      this.#endStruct()
    }
    writer.writeListEnd()
    writer.writeFieldEnd()
  }

  #endStruct(): void {
    this.#writer.writeFieldStop()
    this.#writer.writeStructEnd()
  }
}

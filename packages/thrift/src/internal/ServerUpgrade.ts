/**
 * The server's side of Twitter's upgrade of plain Thrift, after Finagle's `TTwitterServerFilter`: the header before each request is read,
 * one with nothing in it goes before each reply.
 */
import {
  bytesKey,
  CallContext,
  ClientId,
  type ContextEntry,
  type Dentry,
  Destination,
  Dtab,
  Trace,
  type TraceId
} from "@scales-rpc/core"
import { ThriftProtocolError } from "../errors.ts"
import { MessageType, type ProtocolReader, type ProtocolWriter, Type } from "../Protocol.ts"
import { upgradeMethod } from "./UpgradeCodec.ts"

/** What stood in the header before a request. */
export interface RequestHeader {
  readonly context: CallContext
  /** Milliseconds since the epoch; `Infinity`: none. */
  readonly deadline: number
  /** Where the request begins, in bytes. */
  readonly end: number
}

/** Contexts of one header, and delegations: as many as mux accepts contexts. One of few bytes takes hundreds of memory. */
const maxPairs = 256

const fromUtf8 = new TextDecoder("utf-8", { ignoreBOM: true })

/** Contexts that are read here, in lower case: names are compared without regard to it. */
const clientIdId = ClientId.id.toLowerCase()
const traceId = Trace.id.toLowerCase()
const deadlineId = "com.twitter.finagle.deadline"

/** The type of each field of a request's header; a field of another type is none of the header's. */
const typeOfField: ReadonlyMap<number, number> = new Map([
  [1, Type.I64],
  [2, Type.I64],
  [3, Type.I64],
  [5, Type.BOOL],
  [6, Type.STRUCT],
  [7, Type.I64],
  [8, Type.LIST],
  [9, Type.STRING],
  [10, Type.LIST],
  [11, Type.I64]
])

/** Flags of a trace that say whether it is sampled: in a header they have a field of their own. */
const samplingKnown = 2n
const sampledFlag = 4n

const latest = 2n ** 63n - 1n

/** The second of two times in nanoseconds; the latest there is means none. */
const deadlineOf = (bytes: Uint8Array): number | undefined => {
  if (bytes.length !== 16) return undefined
  const nanos = new DataView(bytes.buffer, bytes.byteOffset, 16).getBigInt64(8)
  return nanos === latest ? Infinity : Number(nanos / 1_000_000n)
}

const bigintOf = (reader: ProtocolReader): bigint => {
  const { buffer, offset = 0 } = reader.readI64()
  return new DataView(buffer.buffer, buffer.byteOffset).getBigUint64(offset)
}

/** One request header being read. */
class HeaderReader {
  readonly #reader: ProtocolReader
  readonly #entries: Array<ContextEntry> = []
  readonly #dtab: Array<Dentry> = []
  /** Of all lists of contexts, and of all lists of delegations, that have come. */
  #contexts = 0
  #delegations = 0
  #traceId: bigint | undefined
  #spanId: bigint | undefined
  #parentId: bigint | undefined
  #traceIdHigh: bigint | undefined
  #sampled: boolean | undefined
  #flags = 0n
  #clientId: string | undefined
  #destination: string | undefined
  #deadline = Infinity

  constructor(reader: ProtocolReader) {
    this.#reader = reader
  }

  read(): RequestHeader {
    this.#struct((id, type) => this.#field(id, type))
    const spanId = this.#spanId
    if (spanId !== undefined) {
      const parentId = this.#parentId ?? spanId
      const sampled = this.#sampled
      const trace: TraceId = {
        traceId: this.#traceId ?? parentId,
        traceIdHigh: this.#traceIdHigh,
        spanId,
        parentId,
        flags: sampled === undefined ? this.#flags : this.#flags | samplingKnown | (sampled ? sampledFlag : 0n)
      }
      this.#entries.push({ key: Trace, value: trace })
    }
    // It wins over a client id among the contexts.
    if (this.#clientId !== undefined) this.#entries.push({ key: ClientId, value: this.#clientId })
    if (this.#destination !== undefined) this.#entries.push({ key: Destination, value: this.#destination })
    if (this.#dtab.length > 0) this.#entries.push({ key: Dtab, value: this.#dtab })
    return { context: CallContext.of(this.#entries), deadline: this.#deadline, end: this.#reader.position }
  }

  /** Reads a field; `false`, and nothing read, if it is none of the header's. */
  #field(id: number, type: number): boolean {
    if (type !== typeOfField.get(id)) return false
    const reader = this.#reader
    switch (id) {
      case 1:
        this.#traceId = bigintOf(reader)
        break
      case 2:
        this.#spanId = bigintOf(reader)
        break
      case 3:
        this.#parentId = bigintOf(reader)
        break
      case 5:
        this.#sampled = reader.readBool()
        break
      case 6:
        this.#struct((id, type) => {
          if (id !== 1 || type !== Type.STRING) return false
          this.#clientId = reader.readString()
          return true
        })
        break
      case 7:
        this.#flags = bigintOf(reader)
        break
      case 8:
        this.#contexts = this.#structs("contexts", this.#contexts, () => this.#context())
        break
      case 9:
        this.#destination = reader.readString()
        break
      case 10:
        this.#delegations = this.#structs("delegations", this.#delegations, () => this.#delegation())
        break
      case 11:
        this.#traceIdHigh = bigintOf(reader)
        break
    }
    return true
  }

  #context(): void {
    const [key, value] = this.#pair(() => this.#reader.readBinary())
    if (key === undefined || value === undefined) return
    const id = fromUtf8.decode(key)
    switch (id.toLowerCase()) {
      case clientIdId:
        this.#entries.push({ key: ClientId, value: fromUtf8.decode(value) })
        break
      case deadlineId:
        this.#deadline = deadlineOf(value) ?? this.#deadline
        break
      // The header has fields for it, and by those Finagle goes.
      case traceId:
        break
      default:
        this.#entries.push({ key: bytesKey(id), value })
    }
  }

  #delegation(): void {
    const [prefix = "", tree = ""] = this.#pair(() => this.#reader.readString())
    this.#dtab.push({ prefix, tree })
  }

  /** A struct of two strings, 1 and 2, each of which may be missing. */
  #pair<A>(read: () => A): readonly [first: A | undefined, second: A | undefined] {
    const pair: [A | undefined, A | undefined] = [undefined, undefined]
    this.#struct((id, type) => {
      if (type !== Type.STRING || (id !== 1 && id !== 2)) return false
      pair[id - 1] = read()
      return true
    })
    return pair
  }

  /** Calls `read` for each field; one that it answers with `false`, and so has not read, is passed over. */
  #struct(read: (id: number, type: number) => boolean): void {
    const reader = this.#reader
    reader.readStructBegin()
    for (let field = reader.readFieldBegin(); field.ftype !== Type.STOP; field = reader.readFieldBegin()) {
      const { fid, ftype } = field
      if (!read(fid, ftype)) reader.skip(ftype)
      reader.readFieldEnd()
    }
    reader.readStructEnd()
  }

  /**
   * Calls `read` for each struct of a list; what else is in it is passed over. Gives how many there are together with those `before`;
   * if these are too many none is read.
   */
  #structs(what: string, before: number, read: () => void): number {
    const reader = this.#reader
    const { etype, size } = reader.readListBegin()
    const count = before + size
    if (count > maxPairs) {
      throw new ThriftProtocolError({
        reason: "SizeLimit",
        offset: reader.position,
        message: `${count} ${what} in a request's header, at most ${maxPairs}`
      })
    }
    for (let i = 0; i < size; i++) {
      if (etype === Type.STRUCT) read()
      else reader.skip(etype)
    }
    reader.readListEnd()
    return count
  }
}

/** Reads and writes with the protocol of the connection. */
export class ServerUpgrade {
  readonly #reader: ProtocolReader
  readonly #writer: ProtocolWriter
  /** What goes before every reply: a header without spans and contexts. */
  readonly responseHeader: Uint8Array

  constructor(reader: ProtocolReader, writer: ProtocolWriter) {
    this.#reader = reader
    this.#writer = writer
    writer.reset()
    this.#emptyStruct("ResponseHeader")
    this.responseHeader = writer.take()
  }

  /** The answer to a client that asks: yes. */
  reply(sequenceId: number): Uint8Array {
    const writer = this.#writer
    writer.reset()
    writer.writeMessageBegin(upgradeMethod, MessageType.REPLY, sequenceId)
    this.#emptyStruct("UpgradeReply")
    writer.writeMessageEnd()
    return writer.take()
  }

  /** Reads what goes before a request. Throws `ThriftProtocolError`. */
  requestHeader(message: Uint8Array): RequestHeader {
    return new HeaderReader(this.#reader.reset(message)).read()
  }

  #emptyStruct(name: string): void {
    this.#writer.writeStructBegin(name)
    this.#writer.writeFieldStop()
    this.#writer.writeStructEnd()
  }
}

/**
 * Codecs alone: a call is encoded and its reply decoded, by ours and by npm's `thrift` with the same generated code, in each protocol, for the small
 * struct of the other measures and for one with a thousand numbers; and mux frames are written and read, 64 to a chunk.
 */
import { decode, encode, FrameReader, FrameWriter, Message as Mux } from "@scales-rpc/mux"
import { decodeReply, type Protocol, Protocols } from "@scales-rpc/thrift"
import * as Exit from "effect/Exit"
import * as thrift from "thrift"
import { summarize, type Summary } from "../statistics.ts"
import { Echo, EchoGen, Message, method, workOf } from "../workload.ts"
import { answering, type Extent, isolated } from "./isolated.ts"

const payloads = {
  small: workOf(86).message,
  list: new Message({
    text: "a list",
    number: new thrift.Int64(12),
    items: Array.from({ length: 1000 }, (_, i) => (i * 7919) % 100_000)
  })
}

/** What is encoded: the struct of every other measure, or one with a list of 1,000 numbers. */
export type PayloadName = keyof typeof payloads

const npmProtocols = {
  binary: thrift.TBinaryProtocol,
  compact: thrift.TCompactProtocol,
  json: thrift.TJSONProtocol
}

/** The protocols that both have. */
export type ProtocolName = keyof typeof npmProtocols

/** One codec with one payload: nanoseconds a message; of mux those of a frame. */
export interface CodecCost {
  readonly codec: "ours" | "npm thrift" | "mux"
  readonly protocol: ProtocolName | "frames"
  readonly payload: PayloadName
  readonly bytes: number
  readonly encodeNanos: Summary
  readonly decodeNanos: Summary
}

interface Task {
  readonly codec: CodecCost["codec"]
  readonly protocol: CodecCost["protocol"]
  readonly rounds: number
  readonly millis: number
}

/** Writes one message, and reads one. */
interface Codec {
  readonly bytes: number
  readonly encode: () => void
  readonly decode: () => void
  /** How many messages that is. */
  readonly messages: number
}

const definition = Echo.definition.methods.get(method)!

const replyBytes = (protocol: Protocol, value: Message): Uint8Array => {
  const writer = protocol.writer()
  definition.encodeResult(1, value, writer)
  return writer.take()
}

const wrong = (what: string): never => {
  throw new Error(`${what} is not what was sent`)
}

const ours = (protocol: Protocol, value: Message): Codec => {
  const writer = protocol.writer()
  const reader = protocol.reader()
  const args = [value]
  const reply = replyBytes(protocol, value)
  let bytes = 0
  const call = () => {
    writer.reset()
    definition.encodeCall(1, args, writer)
    bytes = writer.take().length
  }
  call()
  return {
    bytes,
    messages: 1,
    encode: call,
    decode: () => {
      const decoded = decodeReply(definition, reader.reset(reply))
      if (Exit.isFailure(decoded) || (decoded.value as Message).items.length !== value.items.length) wrong("the reply")
    }
  }
}

/** What generated clients and npm's `thrift` have that its types do not say. */
interface GeneratedClient {
  readonly _reqs: Record<number, (error: unknown, value?: Message) => void>
  readonly send_passMessage: (argument: Message) => void
  readonly recv_passMessage: (input: unknown, type: number, sequenceId: number) => void
}

/** The two halves of a call of npm's client, with a framed transport that goes nowhere. */
const npm = (protocol: ProtocolName, value: Message): Codec => {
  let bytes = 0
  const Transport = thrift.TFramedTransport as unknown as new(input: unknown, flush?: (frame: Buffer) => void) => object
  const output = new Transport(undefined, (frame) => {
    bytes = frame.length - 4
  })
  const Pick = npmProtocols[protocol] as unknown as new(transport: object) => {
    readMessageBegin(): { readonly mtype: number; readonly rseqid: number }
  }
  const client = new (EchoGen.Client as unknown as new(output: object, protocol: unknown) => GeneratedClient)(
    output,
    Pick
  )
  const reply = Buffer.from(replyBytes(Protocols[protocol], value))
  let items = 0
  const done = (_: unknown, decoded?: Message) => {
    items = decoded?.items.length ?? -1
  }
  client.send_passMessage(value)
  return {
    bytes,
    messages: 1,
    encode: () => client.send_passMessage(value),
    decode: () => {
      const input = new Pick(new Transport(reply))
      const { mtype, rseqid } = input.readMessageBegin()
      client._reqs[rseqid] = done
      client.recv_passMessage(input, mtype, rseqid)
      if (items !== value.items.length) wrong("the reply")
    }
  }
}

const none: ReadonlyArray<never> = []
const batch = 64

const mux = (value: Message): Codec => {
  const body = replyBytes(Protocols.binary, value)
  const frames = new FrameWriter({ write: () => true })
  const reader = new FrameReader()
  const one = encode({ _tag: "Rdispatch", tag: 5, status: Mux.Status.Ok, contexts: none, body })
  const chunk = Buffer.concat(Array.from({ length: batch }, () => one))
  let read = 0
  const onFrame = (type: number, tag: number, bytes: Uint8Array) => {
    const decoded = decode(type, tag, bytes)
    if (decoded._tag === "Rdispatch" && decoded.body.length === body.length) read++
  }
  return {
    bytes: one.length,
    messages: batch,
    encode: () => {
      for (let tag = 2; tag < batch + 2; tag++) {
        frames.send({ _tag: "Tdispatch", tag, contexts: none, destination: "", dtab: none, body })
      }
      frames.flush()
    },
    decode: () => {
      read = 0
      reader.push(chunk, onFrame)
      if (read !== batch) wrong("a frame")
    }
  }
}

const codecOf = ({ codec, protocol }: Task, value: Message): Codec => {
  if (protocol === "frames") return mux(value)
  return codec === "ours" ? ours(Protocols[protocol], value) : npm(protocol, value)
}

/** CPU nanoseconds of one message, over about so many milliseconds. */
const timed = (run: () => void, messages: number, millis: number): number => {
  const until = performance.now() + millis
  const cpu = process.cpuUsage()
  let count = 0
  do {
    for (let i = 0; i < 20; i++) run()
    count += 20 * messages
  } while (performance.now() < until)
  const { system, user } = process.cpuUsage(cpu)
  return (user + system) * 1000 / count
}

const measureOne = async (task: Task): Promise<ReadonlyArray<CodecCost>> => {
  const names = Object.keys(payloads) as ReadonlyArray<PayloadName>
  const found: Array<CodecCost> = []
  for (const payload of names) {
    const codec = codecOf(task, payloads[payload])
    const encoding: Array<number> = []
    const decoding: Array<number> = []
    for (let round = -3; round < task.rounds; round++) {
      const one = timed(codec.encode, codec.messages, task.millis)
      const other = timed(codec.decode, codec.messages, task.millis)
      // What the writer has queued for the end of the turn.
      await Promise.resolve()
      if (round < 0) continue
      encoding.push(one)
      decoding.push(other)
    }
    found.push({
      codec: task.codec,
      protocol: task.protocol,
      payload,
      bytes: codec.bytes,
      encodeNanos: summarize(encoding),
      decodeNanos: summarize(decoding)
    })
  }
  return found
}

/** Measures each codec in a process of its own, ours and npm's by turns; `quick` measures nothing. */
export const measureCodec = async (
  extent: Extent,
  progress: (line: string) => void
): Promise<ReadonlyArray<CodecCost>> => {
  if (extent === "quick") return []
  const how = extent === "full" ? { rounds: 21, millis: 60 } : { rounds: 9, millis: 30 }
  const costs: Array<CodecCost> = []
  const run = async (codec: CodecCost["codec"], protocol: CodecCost["protocol"]) => {
    progress(`codecs alone: ${codec}, ${protocol}`)
    const task: Task = { codec, protocol, ...how }
    costs.push(...await isolated<ReadonlyArray<CodecCost>>(import.meta.url, task))
  }
  for (const protocol of Object.keys(npmProtocols) as ReadonlyArray<ProtocolName>) {
    await run("ours", protocol)
    await run("npm thrift", protocol)
  }
  await run("mux", "frames")
  return costs
}

answering(import.meta, measureOne)

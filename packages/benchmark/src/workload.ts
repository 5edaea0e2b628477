/**
 * What every client calls and every server answers: one method, one struct of a string, an i64 and a list of i32; over HTTP a GET whose answer
 * is the same as JSON, or a POST of the JSON. The string is as long as a payload needs.
 */
import { ThriftService } from "@scales-rpc/thrift"
import * as thrift from "thrift"
import * as EchoGen from "../../examples/gen/Echo.js"
import { Message } from "../../examples/gen/echo_types.js"

export { EchoGen, Message }

/** The method that is called. It answers its argument. */
export const method = "passMessage"

/** The service, for the clients that are ours. */
export class Echo extends ThriftService<Echo>()("Echo", EchoGen) {}

/** Bytes of a struct as JSON-like tools count the smallest one, 86, and larger ones with a longer string. */
export type Payload = 86 | 4096 | 1_048_576

/** The struct without a class or an integer type of Thrift's: for JSON, protocol buffers and Effect's rpc. */
export interface Plain {
  readonly text: string
  readonly number: number
  readonly items: ReadonlyArray<number>
}

/** A reply as any client has it: Thrift's struct, protocol buffers' or JSON's, or the JSON of it as text. */
export type Reply = string | {
  readonly text: string
  readonly number: number | { readonly toNumber: (allowImprecise: boolean) => number }
  readonly items: ReadonlyArray<number>
}

/** The argument of every call of one payload, in each of its forms, and what looks at replies. */
export interface Work {
  readonly payload: Payload
  /** Of the smallest payload: 70 bytes as the arguments of a Thrift call, 93 with the message's header. */
  readonly message: Message
  readonly plain: Plain
  readonly json: string
  /** Says what is wrong with a reply; `undefined` when it is the argument, or the JSON of it. */
  readonly wrongIn: (reply: Reply) => string | undefined
}

const shortest = "hello world hello world"
const number = 12
const items: ReadonlyArray<number> = [1, 2, 3, 4]

/** Through a buffer, so that it is not a rope, which the first encoder would have to flatten. */
const textOf = (payload: Payload): string => {
  const length = shortest.length + payload - 86
  return Buffer.alloc(length, "hello world ").toString("latin1")
}

/** At most so many characters of a text are told. */
const told = (text: string): string => JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}...` : text)

const make = (payload: Payload): Work => {
  const text = textOf(payload)
  const plain: Plain = { text, number, items }
  const json = JSON.stringify(plain)
  return {
    payload,
    message: new Message({ text, number: new thrift.Int64(number), items: [...items] }),
    plain,
    json,
    wrongIn: (reply) => {
      if (typeof reply === "string") return reply === json ? undefined : `the body is ${told(reply)}`
      if (reply.text !== text) return `text is ${told(reply.text)}`
      const replied = typeof reply.number === "number" ? reply.number : reply.number.toNumber(true)
      if (replied !== number) return `number is ${reply.number.toString()}`
      if (reply.items.length !== items.length) return `${reply.items.length} items`
      for (let i = 0; i < items.length; i++) if (reply.items[i] !== items[i]) return `item ${i} is ${reply.items[i]}`
      return undefined
    }
  }
}

const works = new Map<Payload, Work>()

/** The work of a payload. */
export const workOf = (payload: Payload): Work => {
  const known = works.get(payload)
  if (known !== undefined) return known
  const work = make(payload)
  works.set(payload, work)
  return work
}

/** What an HTTP server answers to a GET. */
export const json: string = workOf(86).json

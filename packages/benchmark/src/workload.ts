/**
 * What every client calls and every server answers: one method, one struct of a string, an i64 and a list of i32; over HTTP a GET whose answer
 * is the same as JSON.
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

const text = "hello world hello world"
const number = 12
const items: ReadonlyArray<number> = [1, 2, 3, 4]

/** The argument of every call: 70 bytes as the arguments of a Thrift call, 93 with the message's header. */
export const message: Message = new Message({ text, number: new thrift.Int64(number), items: [...items] })

/** What an HTTP server answers. */
export const json: string = JSON.stringify({ text, number, items })

/** Says what is wrong with a reply; `undefined` when it is the argument, or the JSON of it. */
export const wrongIn = (reply: Message | string): string | undefined => {
  if (typeof reply === "string") return reply === json ? undefined : `the body is ${JSON.stringify(reply)}`
  if (reply.text !== text) return `text is ${JSON.stringify(reply.text)}`
  if (reply.number.toNumber(true) !== number) return `number is ${reply.number.toString()}`
  if (reply.items.length !== items.length) return `${reply.items.length} items`
  for (let i = 0; i < items.length; i++) if (reply.items[i] !== items[i]) return `item ${i} is ${reply.items[i]}`
  return undefined
}

/**
 * The struct as protocol buffers and its service, for both sides of gRPC. The codec is what `pbjs --target static` makes of
 *
 *     message Message { string text = 1; int64 number = 2; repeated int32 items = 3; }
 *
 * written by hand over protobufjs' own writer and reader: the fastest that grpc-js is given without leaving protocol buffers.
 */
import type { ServiceDefinition } from "@grpc/grpc-js"
import protobuf from "protobufjs/minimal.js"
import type { Plain, Reply } from "./workload.ts"

const { Reader, Writer } = protobuf

type Integer = Exclude<Reply, string>["number"]

const encode = ({ items, number, text }: Plain): Buffer => {
  const writer = Writer.create()
  writer.uint32(10).string(text)
  writer.uint32(16).int64(number)
  writer.uint32(26).fork()
  for (const item of items) writer.int32(item)
  return writer.ldelim().finish() as Buffer
}

const decode = (bytes: Buffer): Exclude<Reply, string> => {
  const reader = Reader.create(bytes)
  let text = ""
  let number: Integer = 0
  const items: Array<number> = []
  while (reader.pos < reader.len) {
    const tag = reader.uint32()
    switch (tag >>> 3) {
      case 1:
        text = reader.string()
        break
      case 2:
        // Its declared type lacks the methods that it has.
        number = reader.int64() as unknown as Integer
        break
      case 3:
        if ((tag & 7) === 2) {
          const end = reader.uint32() + reader.pos
          while (reader.pos < end) items.push(reader.int32())
        } else items.push(reader.int32())
        break
      default:
        reader.skipType(tag & 7)
    }
  }
  return { text, number, items }
}

/** The one method: unary, it answers its argument. */
export const echo = {
  passMessage: {
    path: "/Echo/passMessage",
    requestStream: false,
    responseStream: false,
    requestSerialize: encode,
    requestDeserialize: decode,
    responseSerialize: encode,
    responseDeserialize: decode
  }
} as const satisfies ServiceDefinition

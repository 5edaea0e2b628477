// The service that the tests of the server serve, and calls of it as bytes.
import { Rpc } from "@scales-rpc/core"
import { Cause, Effect, Exit } from "effect"
import { decodeReply, type Protocol, Protocols, ThriftServer, ThriftService } from "../src/index.ts"
import * as EchoGen from "./gen24/Echo.js"
import { Refused } from "./gen24/echo_types.js"
import { connect, type RawClient, type Speech } from "./rawClient.ts"

export class Echo extends ThriftService<Echo>()("Echo", EchoGen) {}

export const handlers: ThriftServer.Handlers<typeof Echo> = {
  ping: () => Effect.succeed("pong"),
  touch: () => Effect.void,
  passMessage: (message) => Effect.succeed(message),
  echo: (message) => Effect.succeed(message),
  fail: (why) => Effect.fail(new Refused({ why })),
  crash: (why) => Effect.die(new Error(why)),
  slow: (millis) => Effect.as(Effect.sleep(millis), `${millis}`),
  seen: () => Effect.map(Rpc.Inbound, (inbound) => `${inbound?.peer} ${inbound?.deadline}`),
  blob: (bytes) => Effect.succeed(bytes),
  index: (index) => Effect.succeed(index),
  note: () => Effect.void
}

/** The bytes of a call. */
export const call = (
  name: string,
  args: ReadonlyArray<unknown>,
  id = 1,
  protocol: Protocol = Protocols.binary,
  service?: string
): Uint8Array => {
  const writer = protocol.writer(service === undefined ? {} : { multiplexed: service })
  Echo.definition.methods.get(name)!.encodeCall(id, args, writer)
  return writer.take()
}

/** A message that is nothing but its header and an empty struct. */
export const bare = (name: string, type: number, id = 1, protocol: Protocol = Protocols.binary): Uint8Array => {
  const writer = protocol.writer()
  writer.writeMessageBegin(name, type, id)
  writer.writeStructBegin("args")
  writer.writeFieldStop()
  writer.writeStructEnd()
  writer.writeMessageEnd()
  return writer.take()
}

/** What a client makes of a reply: the method and the id it has, and how the call ended. */
export const read = (name: string, reply: Uint8Array, protocol: Protocol = Protocols.binary) => {
  const reader = protocol.reader().reset(reply)
  const exit = decodeReply(Echo.definition.methods.get(name)!, reader)
  return { exit, name: reader.message.fname, id: reader.message.rseqid }
}

/** The ids of replies. */
export const idsOf = (client: RawClient): ReadonlyArray<number> =>
  client.received.map((reply) => client.speech.protocol.reader().reset(reply).readMessageBegin().rseqid)

/** What a failure is; the exit itself if it is none. */
export const errorOf = (exit: Exit.Exit<unknown, unknown>): unknown =>
  Exit.isFailure(exit) ? Cause.squash(exit.cause) : exit

/** Calls, and waits for the reply. */
export const ask = (client: RawClient, name: string, args: ReadonlyArray<unknown>, id = 1) =>
  Effect.suspend(() => {
    const { protocol } = client.speech
    client.send(call(name, args, id, protocol))
    return Effect.map(client.next, (reply) => read(name, reply, protocol))
  })

/** A server and a client of it. */
export const open = (options?: ThriftServer.ThriftServerOptions, speech?: Speech) =>
  Effect.gen(function*() {
    const server = yield* ThriftServer.make(Echo, handlers, options)
    return { server, client: yield* connect(server.address, speech) }
  })

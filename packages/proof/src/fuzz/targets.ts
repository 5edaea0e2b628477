/** The decoders under attack: what each reads, a corpus of what it should read, and how it may end. */
import { Endpoint, InvalidUri, resolve, ResolverFor, type ServerSetState, Trace, UnknownScheme } from "@scales-rpc/core"
import type { Message } from "@scales-rpc/mux"
import {
  contextOf,
  decode,
  decodeDeadline,
  decodeHeaders,
  encode,
  encodeDeadline,
  encodeHeaders,
  encodeRetries,
  Fragments,
  FrameReader,
  MuxDecodeError,
  muxFailureContext,
  muxFailureOf
} from "@scales-rpc/mux"
import { decodeReply, type Protocol, Protocols, ThriftProtocolError } from "@scales-rpc/thrift"
import { decodeMember, zk } from "@scales-rpc/zookeeper"
import { FakeZooKeeper } from "@scales-rpc/zookeeper/testing"
import { Cause, Context, Effect, Exit, Layer, Scope, Stream } from "effect"
import { framing } from "./framing.ts"
import type { Target } from "./target.ts"
import { echo, methods, thriftMessages, wide } from "./thriftMessages.ts"
import { upgrade } from "./upgrade.ts"

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text)

const concat = (parts: ReadonlyArray<Uint8Array>): Uint8Array => Uint8Array.from(Buffer.concat([...parts]))

const contexts: ReadonlyArray<Message.Pair> = [
  [utf8("com.twitter.finagle.tracing.TraceContext"), new Uint8Array(32).fill(1)],
  [utf8("com.twitter.finagle.Deadline"), encodeDeadline({ timestamp: 1.7e12, deadline: 1.7e12 + 1000 })],
  [utf8("com.twitter.finagle.thrift.ClientIdContext"), utf8("fuzz")],
  [utf8("com.twitter.finagle.Retries"), encodeRetries(1)],
  [utf8("com.twitter.finagle.thrift.Request.headers"), encodeHeaders([["a", "b"], ["ü", ""]]).bytes],
  muxFailureContext(3)
]

const frames: ReadonlyArray<Uint8Array> = ([
  { _tag: "Rerr", tag: 1, why: "tinit check" },
  {
    _tag: "Tinit",
    tag: 1,
    version: 1,
    headers: [[utf8("mux-framer"), Uint8Array.of(0, 0, 0, 5)], [utf8("tls"), utf8("off")]]
  },
  { _tag: "Rinit", tag: 1, version: 1, headers: [] },
  {
    _tag: "Tdispatch",
    tag: 2,
    contexts,
    destination: "/svc/echo",
    dtab: [{ prefix: "/a", tree: "/b | /c" }],
    body: utf8("hello")
  },
  { _tag: "Rdispatch", tag: 2, status: 0, contexts, body: utf8("hello") },
  { _tag: "Rdispatch", tag: 3, status: 2, contexts: [muxFailureContext(3)], body: utf8("") },
  { _tag: "Treq", tag: 2, trace: { spanId: 1n, parentId: 2n, traceId: 3n, flags: 1 }, body: utf8("hello") },
  { _tag: "Rreq", tag: 2, status: 1, body: utf8("no") },
  { _tag: "Tdrain", tag: 1 },
  { _tag: "Tping", tag: 1 },
  { _tag: "Rdiscarded", tag: 7 },
  { _tag: "Tdiscarded", tag: 0, which: 2, why: "timeout" },
  { _tag: "Tlease", tag: 0, unit: 0, howMuch: 1000n }
] satisfies ReadonlyArray<Message.Sendable>).map(encode)

/** The same dispatch in three fragments. */
const fragments: Uint8Array = (() => {
  const whole = frames[3]!
  const body = whole.subarray(8)
  const cut = [body.subarray(0, 60), body.subarray(60, 120), body.subarray(120)]
  return concat(cut.map((slice, index) => {
    const frame = new Uint8Array(8 + slice.length)
    const view = new DataView(frame.buffer)
    view.setUint32(0, 4 + slice.length)
    frame.set(whole.subarray(4, 8), 4)
    if (index < cut.length - 1) frame[5]! |= 0x80
    frame.set(slice, 8)
    return frame
  }))
})()

/** A whole connection's bytes: frames cut, put together and decoded, in two chunks. */
const mux: Target = {
  name: "mux",
  corpus: [...frames, fragments, concat(frames), concat([fragments, ...frames])],
  run: (bytes) => {
    const reader = new FrameReader()
    const partial = new Fragments()
    const messages: Array<unknown> = []
    try {
      const onFrame = (type: number, tag: number, body: Uint8Array) => {
        const whole = partial.push(type, tag, body)
        if (whole !== undefined) messages.push(decode(type, tag, whole))
      }
      const half = bytes.length >> 1
      reader.push(bytes.subarray(0, half), onFrame)
      reader.push(bytes.subarray(half), onFrame)
    } catch (error) {
      if (!(error instanceof MuxDecodeError)) throw error
      messages.push(error.what)
    }
    return [messages, partial.bytes, reader.pending]
  }
}

const isOurs = (error: unknown): boolean =>
  typeof error === "object" && error !== null && "_tag" in error &&
  ["ThriftProtocolError", "ThriftApplicationException", "ThriftException"].includes(String(error._tag))

/** A message of a protocol, read as a call and as a reply, by the method that it names or by one that its bytes choose. */
const thrift = (name: string, protocol: Protocol): Target => {
  const reader = protocol.reader()
  return {
    name,
    corpus: thriftMessages(protocol),
    run: (bytes) => {
      const results: Array<unknown> = []
      const method = methods[(bytes.length + (bytes[bytes.length >> 1] ?? 0)) % methods.length]!
      let named = method
      try {
        reader.reset(bytes)
        const { fname } = reader.readMessageBegin()
        named = echo.methods.get(fname) ?? wide.methods.get(fname) ?? method
        results.push(named.decodeArguments(reader))
      } catch (error) {
        if (!(error instanceof ThriftProtocolError)) throw error
      }
      const reply = decodeReply(bytes.length % 2 === 0 ? named : method, reader.reset(bytes))
      if (Exit.isSuccess(reply)) results.push(reply.value)
      else if (!isOurs(Cause.squash(reply.cause))) throw Cause.squash(reply.cause)
      return results
    }
  }
}

/** The values of contexts, each read as every kind there is. */
const contextValues: Target = {
  name: "contexts",
  corpus: contexts.map(([, value]) => value),
  run: (bytes) => {
    const results: Array<unknown> = [
      decodeDeadline(bytes),
      decodeHeaders(bytes),
      Trace.decode!(bytes),
      muxFailureOf([[utf8("MuxFailure"), bytes]])
    ]
    for (const [key] of contexts) {
      const context = contextOf([[key, bytes], [bytes, key]], "", [])
      results.push([...context].length, context.get(Trace))
    }
    return results
  }
}

/** `zk://` as it is when its package is loaded, which takes a turn, with sessions that connect nothing. */
const services = Effect.runSync(Effect.map(
  Layer.buildWithScope(FakeZooKeeper.layer(), Scope.makeUnsafe()),
  Context.add(ResolverFor("zk"), zk)
))

/** Sets that are what their URI says, and known at once. */
const fixed = /^(tcp|unix):/i

/** URIs of server sets, as far as reading them goes: up to the state that a fixed one names, and before anything is asked of a registry. */
const uris: Target = {
  name: "uris",
  corpus: [
    "tcp://localhost:8080",
    "tcp://10.0.0.1:1,10.0.0.2:65535,host-name.example:80",
    "tcp://[::1]:8080,[2001:db8::ff00:42:8329]:1,[::ffff:1.2.3.4]:2",
    "unix:///tmp/socket",
    "TCP://a_b:1",
    "zk://h:2181,[::1],10.0.0.1:65535/path/to#name",
    "file:///etc/services.json",
    "dns://service.example:80",
    "srv://_thrift._tcp.service.example"
  ].map(utf8),
  run: (bytes) => {
    const uri = new TextDecoder().decode(bytes)
    const exit = Effect.runSyncExit(
      resolve(uri).pipe(
        Effect.flatMap((states) => fixed.test(uri) ? Stream.runCollect(states) : Effect.succeed([])),
        Effect.scoped,
        Effect.provide(services)
      )
    )
    if (Exit.isSuccess(exit)) {
      for (const state of exit.value) check(state)
      return exit.value
    }
    const error = Cause.squash(exit.cause)
    if (!(error instanceof InvalidUri || error instanceof UnknownScheme)) throw error
    return undefined
  }
}

/** What other programs write into the nodes of a server set. */
const members: Target = {
  name: "members",
  corpus: [
    `{"serviceEndpoint":{"host":"10.0.0.3","port":80},"additionalEndpoints":{"http":{"host":"10.0.0.2","port":80}},"status":"ALIVE","shard":0}`,
    `{"status": "ALIVE", "additionalEndpoints": {"aurora": {"host": "::1", "port": 31943}, "é": {"host": "a", "port": 1}}, `
    + `"serviceEndpoint": {"host": "smf1-a.example.com", "port": 31943}, "shard": "2", "metadata": {"k": "v", "": ""}}`,
    `{"serviceEndpoint":null,"additionalEndpoints":[],"status":7,"shard":-1,"metadata":{"a":{}}}`
  ].map(utf8),
  run: (bytes) => {
    const member = decodeMember(bytes)
    for (
      const { host, port } of [member.serviceEndpoint, ...member.additionalEndpoints.values()].filter((e) =>
        e !== undefined
      )
    ) {
      Endpoint.tcp(host, port, { shard: member.shard, metadata: member.metadata })
    }
    return member
  }
}

/** Whatever a URI was read as can be connected to. */
const check = (state: ServerSetState): void => {
  if (state._tag !== "Bound" || state.endpoints.length === 0) throw new Error(`a URI read as ${state._tag}`)
  for (const endpoint of state.endpoints) {
    const { host, port } = endpoint
    if (!Endpoint.isUnix(endpoint) && !(host !== "" && Number.isInteger(port) && port >= 1 && port <= 65_535)) {
      throw new Error(`a URI read as ${host}, ${port}`)
    }
  }
}

/** All of them. */
export const targets: ReadonlyArray<Target> = [
  mux,
  thrift("binary", Protocols.binary),
  thrift("binaryOld", Protocols.binaryOld),
  thrift("compact", Protocols.compact),
  thrift("json", Protocols.json),
  framing,
  upgrade,
  contextValues,
  uris,
  members
]

/** Twitter's upgrade of plain Thrift: headers before requests and replies, and what a client's first bytes are spoken in. */
import {
  Abort,
  beginAttempt,
  CallContext,
  classifyExit,
  ClientId,
  Destination,
  Dtab,
  Endpoint,
  textKey,
  Trace
} from "@scales-rpc/core"
import { type ProtocolReader, Protocols, ThriftProtocolError } from "@scales-rpc/thrift"
import { detect, detectable } from "../../../thrift/src/internal/Detection.ts"
import { chunksOf, type Framing } from "../../../thrift/src/internal/Framing.ts"
import { ServerUpgrade } from "../../../thrift/src/internal/ServerUpgrade.ts"
import { UpgradeCodec } from "../../../thrift/src/internal/UpgradeCodec.ts"
import type { Target } from "./target.ts"
import { thriftMessages } from "./thriftMessages.ts"

/** Both sides of an upgraded connection, and a method's call behind which they stand. */
const sides = [Protocols.binary, Protocols.compact, Protocols.json].map((protocol) => {
  const reader = protocol.reader()
  return {
    reader,
    server: new ServerUpgrade(reader, protocol.writer()),
    client: new UpgradeCodec(protocol.writer(), undefined, () => 0.3),
    messages: thriftMessages(protocol)
  }
})

/** Every field of a header, and none but those there have to be. */
const contexts: ReadonlyArray<CallContext> = [
  CallContext.empty
    .with(Trace, { traceId: 1n, traceIdHigh: 2n, spanId: 3n, parentId: 4n, flags: 7n })
    .with(textKey("k"), "v")
    .with(ClientId, "web")
    .with(Destination, "/s/echo")
    .with(Dtab, [{ prefix: "/a", tree: "/b | /c" }, { prefix: "/b", tree: "/d" }]),
  CallContext.empty
]

const attempt = (context: CallContext) =>
  beginAttempt(
    {
      service: "s",
      method: "m",
      idempotent: false,
      deadline: 1.7e12,
      context,
      abort: new Abort(Infinity, 50),
      tried: [],
      classify: classifyExit,
      reply: undefined,
      span: undefined,
      trace: undefined
    },
    Endpoint.tcp("h", 1),
    () => 0
  )

/** The first byte chooses the protocol whose header follows, or that the beginning of a connection does. */
const corpus: ReadonlyArray<Uint8Array> = [
  ...sides.flatMap(({ client, messages, server }, side) => [
    ...contexts.map((context) => [Uint8Array.of(side), client.requestHeader(attempt(context), 0), messages[2]!]),
    [Uint8Array.of(side), server.responseHeader, messages[3]!]
  ]),
  ...detectable.map((protocol, index) => [
    Uint8Array.of(sides.length),
    ...chunksOf(index % 2 === 0 ? "framed" : "buffered", thriftMessages(protocol)[2]!)
  ])
].map((parts) => Uint8Array.from(Buffer.concat(parts)))

/** What was read, or `undefined` for bytes that were refused. */
const read = <A>(decode: () => A): A | undefined => {
  try {
    return decode()
  } catch (error) {
    if (!(error instanceof ThriftProtocolError)) throw error
    return undefined
  }
}

/** A header as a server reads it and as a client passes over it: both find its end at the same place. */
const header = (
  { client, reader, server }: {
    readonly client: UpgradeCodec
    readonly reader: ProtocolReader
    readonly server: ServerUpgrade
  },
  bytes: Uint8Array
): unknown => {
  const request = read(() => server.requestHeader(bytes))
  const body = read(() => client.replyBody(reader, bytes))
  if (request === undefined) return body
  const { context, deadline, end } = request
  if (!(Number.isInteger(end) && end > 0 && end <= bytes.length)) throw new Error(`a header that ends at ${end}`)
  if (Number.isNaN(deadline)) throw new Error("a deadline that is no time")
  if (body?.length !== bytes.length - end) {
    throw new Error(`a header of ${end} bytes, passed over with ${bytes.length - (body?.length ?? 0)}`)
  }
  return [[...context], context.get(Trace), context.get(ClientId), context.get(Dtab)]
}

const choices: ReadonlyArray<readonly [framing: Framing | "auto", protocol: typeof detectable[number] | "auto"]> = [
  ["auto", "auto"],
  ["framed", "auto"],
  ["buffered", "auto"],
  ["auto", Protocols.binary]
]

/** Five bytes are enough, and whatever was told from fewer holds. */
const detected = (bytes: Uint8Array): void => {
  for (const [framing, protocol] of choices) {
    const whole = read(() => detect(framing, protocol, bytes) ?? "unknown")
    if (whole === "unknown" && bytes.length > 4) throw new Error("five bytes, and it is not known what they are")
    for (let length = Math.min(bytes.length, 5); length >= 0; length--) {
      const found = read(() => detect(framing, protocol, bytes.subarray(0, length)) ?? "unknown")
      if (found === "unknown") continue
      const same = found === undefined || whole === undefined || whole === "unknown"
        ? found === whole
        : found.framing === whole.framing && found.protocol === whole.protocol
      if (!same) throw new Error(`the first ${length} bytes are taken for something else`)
    }
  }
}

/** A header in one of the protocols, or the detection. */
export const upgrade: Target = {
  name: "upgrade",
  corpus,
  run: (bytes) => {
    const side = sides[(bytes[0] ?? 0) % (sides.length + 1)]
    return side === undefined ? detected(bytes.subarray(1)) : header(side, bytes.subarray(1))
  }
}

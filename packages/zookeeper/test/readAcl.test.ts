import { assert, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { type AddressInfo, createServer, type Socket } from "node:net"
import { type AclSource, readAcl } from "../src/internal/readAcl.ts"

const int = (value: number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}
const long = (value: number) => Buffer.concat([int(Math.floor(value / 2 ** 32)), int(value % 2 ** 32)])
const sized = (...parts: ReadonlyArray<Buffer>) => {
  const all = Buffer.concat(parts)
  return Buffer.concat([int(all.length), all])
}
const text = (value: string) => sized(Buffer.from(value))
const handshake = sized(int(0), int(4000), long(1), sized(Buffer.alloc(16)), Buffer.alloc(1))
const header = (xid: number, code: number) => Buffer.concat([int(xid), long(1), int(code)])
const synced = sized(header(1, 0), text("/a"))
const stat = Buffer.concat([
  ...[11, 12, 13, 14].map(long),
  ...[1, 2, 3].map(int),
  long(0x1234),
  ...[4, 5].map(int),
  long(15)
])
const list = sized(
  header(2, 0),
  int(2),
  int(31),
  text("world"),
  text("anyone"),
  int(5),
  text("digest"),
  text("me:hash"),
  stat
)

/** A server that does as the test says with each connection. */
const server = (serve: (socket: Socket) => void) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly address: string; readonly port: number }>((resume) => {
      const sockets = new Set<Socket>()
      const listening = createServer((socket) => {
        sockets.add(socket)
        socket.on("error", () => {})
        serve(socket)
      }).listen(0, "127.0.0.1", () => {
        const { port } = listening.address() as AddressInfo
        resume(Effect.succeed(Object.assign({ address: "127.0.0.1", port }, {
          close: () => {
            for (const socket of sockets) socket.destroy()
            listening.close()
          }
        })))
      })
    }),
    (made) => Effect.sync(() => (made as unknown as { readonly close: () => void }).close())
  )

const read = (source: Partial<AclSource> & Pick<AclSource, "addresses">) =>
  Effect.callback<ReadonlyArray<unknown>>((resume) => {
    const stop = readAcl({ timeoutMillis: 5000, auth: [], ...source }, "/a", (...outcome) => {
      resume(Effect.succeed(outcome))
    })
    return Effect.sync(stop)
  })

const expected = [0, {
  acl: [
    { scheme: "world", id: "anyone", permissions: "rwcda" },
    { scheme: "digest", id: "me:hash", permissions: "rc" }
  ],
  stat: {
    version: 1,
    childrenVersion: 2,
    aclVersion: 3,
    created: 13,
    modified: 14,
    createdZxid: 11,
    modifiedZxid: 12,
    childrenZxid: 15,
    dataLength: 4,
    childCount: 5,
    owner: "1234"
  }
}]

const bytewise = (socket: Socket, bytes: Buffer) => {
  socket.setNoDelay(true)
  let at = 0
  const next = () => {
    if (at < bytes.length && !socket.destroyed) socket.write(bytes.subarray(at, ++at), () => setImmediate(next))
  }
  next()
}

it.live("an access list is read, however its bytes arrive, and the credentials are shown before", () =>
  Effect.gen(function*() {
    const asked: Array<Buffer> = []
    const address = yield* server((socket) => {
      socket.on("data", (chunk) => asked.push(chunk))
      bytewise(socket, Buffer.concat([handshake, synced, list]))
    })
    const auth = [{ scheme: "digest", credentials: Redacted.make("me:secret") }]
    assert.deepStrictEqual(yield* read({ addresses: [address], auth }), expected)
    const all = Buffer.concat(asked)
    assert.isTrue(all.indexOf("me:secret") > 0 && all.indexOf("me:secret") < all.indexOf("/a"))
  }))

it.live("what the servers refuse is its code, whatever comes after", () =>
  Effect.gen(function*() {
    const address = yield* server((socket) =>
      socket.end(Buffer.concat([handshake, synced, sized(header(2, -101)), sized(header(3, 0))]))
    )
    assert.deepStrictEqual(yield* read({ addresses: [address] }), [-101])
  }))

it.live("a server that closes or talks nonsense is passed over, and nobody left is a lost connection", () =>
  Effect.gen(function*() {
    const closing = yield* server((socket) => socket.destroy())
    const cut = yield* server((socket) => socket.end(Buffer.concat([handshake, list.subarray(0, 40)])))
    const huge = yield* server((socket) => socket.write(int(2 ** 31 - 1)))
    const negative = yield* server((socket) => socket.write(int(-1)))
    const short = yield* server((socket) => socket.write(Buffer.concat([handshake, sized(Buffer.alloc(2))])))
    const lying = yield* server((socket) =>
      socket.write(Buffer.concat([handshake, sized(header(2, 0), int(1), int(1), int(2 ** 30))]))
    )
    const good = yield* server((socket) => socket.write(Buffer.concat([handshake, synced, list])))
    const bad = [closing, cut, huge, negative, short, lying]
    assert.deepStrictEqual(yield* read({ addresses: bad }), [-4])
    assert.deepStrictEqual(yield* read({ addresses: [...bad, good] }), expected)
    const silent = yield* server(() => {})
    assert.deepStrictEqual(yield* read({ addresses: [silent], timeoutMillis: 50 }), [-4])
  }))

it.live("one that is silent, from the start or after the handshake, is not waited for alone", () =>
  Effect.gen(function*() {
    const silent = yield* server(() => {})
    const frozen = yield* server((socket) => socket.write(handshake))
    const good = yield* server((socket) => socket.write(Buffer.concat([handshake, synced, list])))
    assert.deepStrictEqual(yield* read({ addresses: [silent, frozen, good], timeoutMillis: 60_000 }), expected)
  }))

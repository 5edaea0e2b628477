import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { type AddressInfo, createServer, type Socket } from "node:net"
import { endSession } from "../src/internal/endSession.ts"

const server = (serve: (socket: Socket) => void) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.callback<{ readonly port: number; readonly close: () => void }>((resume) => {
        const sockets = new Set<Socket>()
        const listening = createServer((socket) => {
          sockets.add(socket)
          socket.on("error", () => {})
          serve(socket)
        }).listen(0, "127.0.0.1", () =>
          resume(Effect.succeed({
            port: (listening.address() as AddressInfo).port,
            close: () => {
              for (const socket of sockets) socket.destroy()
              listening.close()
            }
          })))
      }),
      ({ close }) => Effect.sync(close)
    ),
    ({ port }) => ({ address: "127.0.0.1", port })
  )

const key = { id: "100018231c70206", password: "000102030405060708090A0B0C0D0E0F" }

it.live("the first server that can be reached is told which session ends, and proof that it is ours", () =>
  Effect.gen(function*() {
    const gone = yield* Effect.scoped(server(() => {}))
    const told: Array<Buffer> = []
    const good = yield* server((socket) =>
      socket.on("data", (chunk) => {
        told.push(chunk)
        if (Buffer.concat(told).length >= 61) socket.end()
      })
    )
    const never = yield* server(() => assert.fail("one server is enough"))
    yield* endSession([gone, good, never], key, 10_000, 10_000)
    assert.strictEqual(
      Buffer.concat(told).toString("hex"),
      // Length, version, last zxid, timeout, session, password, not read-only; length, xid, type -11.
      `0000002d00000000000000000000000000002710${
        key.id.padStart(16, "0")
      }00000010${key.password.toLowerCase()}000000000800000001fffffff5`
    )
  }))

it.live("servers that are silent or gone are waited for no longer than is said", () =>
  Effect.gen(function*() {
    const gone = yield* Effect.scoped(server(() => {}))
    yield* endSession([gone], key, 10_000)
    yield* endSession([], key, 10_000)
    const silent = yield* server(() => {})
    const started = performance.now()
    yield* endSession([silent], key, 50)
    assert.isAtLeast(performance.now() - started, 45)
  }))

it.live("one that takes it and says nothing is not waited for alone", () =>
  Effect.gen(function*() {
    let silentHeard = false
    const silent = yield* server((socket) =>
      socket.on("data", () => {
        silentHeard = true
      })
    )
    const told: Array<Buffer> = []
    const good = yield* server((socket) =>
      socket.on("data", (chunk) => {
        told.push(chunk)
        if (Buffer.concat(told).length >= 61) socket.end()
      })
    )
    yield* endSession([silent, good], key, 60_000)
    assert.isTrue(silentHeard)
    assert.strictEqual(Buffer.concat(told).length, 61)
  }))

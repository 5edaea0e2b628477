/**
 * Ends a session over a connection of its own, in ZooKeeper's protocol: the native client holds up the process, up to 1.5 seconds, until the
 * server has answered, and can end no session that is not connected.
 */
import * as Effect from "effect/Effect"
import { connect, type Socket } from "node:net"
import type { SessionKey } from "./NativeClient.ts"

/** Handshake of a session that exists, then its end: type -11. */
const request = ({ id, password }: SessionKey, timeoutMillis: number): Buffer => {
  const bytes = Buffer.alloc(61)
  bytes.writeInt32BE(45)
  bytes.writeInt32BE(timeoutMillis, 16)
  bytes.writeBigUInt64BE(BigInt(`0x${id}`), 20)
  bytes.writeInt32BE(16, 28)
  bytes.set(Buffer.from(password, "hex"), 32)
  bytes.writeInt32BE(8, 49)
  bytes.writeInt32BE(1, 53)
  bytes.writeInt32BE(-11, 57)
  return bytes
}

/** Done when a server has closed the connection over which it was told, when none can be reached, or when the time is over. */
export const endSession = (
  addresses: ReadonlyArray<{ readonly address: string; readonly port: number }>,
  key: SessionKey,
  timeoutMillis: number
): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const asking: { socket: Socket | undefined } = { socket: undefined }
    const done = () => {
      clearTimeout(timer)
      asking.socket?.removeAllListeners("close").destroy()
      resume(Effect.void)
    }
    const timer = setTimeout(done, timeoutMillis)
    const ask = (index: number): void => {
      const target = addresses[index]
      if (target === undefined) return done()
      let told = false
      const socket = connect({ host: target.address, port: target.port })
      asking.socket = socket
      socket.on("connect", () => {
        told = true
        socket.write(request(key, timeoutMillis))
      })
      socket.on("error", () => socket.destroy())
      socket.on("close", () => told ? done() : ask(index + 1))
      socket.resume()
    }
    ask(0)
    return Effect.sync(done)
  })

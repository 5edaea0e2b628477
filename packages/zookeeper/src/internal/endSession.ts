/**
 * Ends a session over a connection of its own, in ZooKeeper's protocol: the native client holds up the process, up to 1.5 seconds, until the
 * server has answered, and can end no session that is not connected.
 */
import * as Effect from "effect/Effect"
import type { Addresses } from "./addresses.ts"
import { askInTurn } from "./askInTurn.ts"
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

/**
 * Done when a server has closed the connection over which it was told, when none can be reached, or when the time is over. `patienceMillis` is how
 * long one server alone is asked, 300 ms if not given.
 */
export const endSession = (
  addresses: Addresses,
  key: SessionKey,
  timeoutMillis: number,
  patienceMillis?: number
): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const end = askInTurn({
      addresses,
      timeoutMillis,
      patienceMillis,
      nobody: () => resume(Effect.void),
      ask: (socket) => {
        socket.on("connect", () => {
          socket.write(request(key, timeoutMillis))
          socket.on("close", () => {
            if (end()) resume(Effect.void)
          })
        })
        socket.resume()
      }
    })
    return Effect.sync(() => void end())
  })

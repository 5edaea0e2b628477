/** Asks servers one after the other, and does not wait long for one that says nothing: the next is asked beside it. */
import { connect, type Socket } from "node:net"
import type { Addresses } from "./addresses.ts"

/** How long one server alone is asked, in milliseconds. As RFC 8305 has it for connections, with time for an answer. */
const patienceMillis = 300

/** Whom to ask, and how. */
export interface Asking {
  /** Asked in this order. */
  readonly addresses: Addresses
  /** For all of it, in milliseconds. */
  readonly timeoutMillis: number
  /** Default 300 ms. */
  readonly patienceMillis?: number | undefined
  /** Is given each connection that is begun. One that closes is of no use: the next server is asked. */
  readonly ask: (socket: Socket) => void
  /** Nobody is left, or the time is over. */
  readonly nobody: () => void
}

/** The result ends all of it, and says whether it had not ended. */
export const askInTurn = (asking: Asking): () => boolean => {
  const sockets = new Set<Socket>()
  let ended = false
  let asked = 0
  let patience: NodeJS.Timeout | undefined
  const end = (): boolean => {
    const first = !ended
    ended = true
    clearTimeout(timer)
    clearTimeout(patience)
    for (const socket of sockets) socket.destroy()
    return first
  }
  const give = (): void => {
    if (end()) asking.nobody()
  }
  const next = (): void => {
    clearTimeout(patience)
    const target = asking.addresses[asked]
    if (target === undefined) {
      if (sockets.size === 0) give()
      return
    }
    asked++
    const socket = connect({ host: target.address, port: target.port })
    sockets.add(socket)
    asking.ask(socket)
    socket.on("error", () => socket.destroy())
    socket.on("close", () => {
      sockets.delete(socket)
      if (!ended) next()
    })
    patience = setTimeout(next, asking.patienceMillis ?? patienceMillis)
  }
  const timer = setTimeout(give, asking.timeoutMillis)
  next()
  return end
}

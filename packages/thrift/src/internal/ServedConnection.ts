/** A connection as its server's owner sees it: to be drained, cut, or closed because nothing happens on it. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { X509Certificate } from "node:crypto"
import type * as Net from "node:net"
import { TLSSocket } from "node:tls"
import type { ServerConnection } from "./ServerConnection.ts"

/** One connection of a client. */
export interface Connection {
  /** The client's address, `host:port`; empty on a Unix socket. */
  readonly peer: string
  /** Whether it is encrypted. */
  readonly secured: boolean
  /** What the client has shown, and the server has found good; `undefined`: none was shown. */
  readonly certificate: X509Certificate | undefined
  /** Requests that have not been answered. */
  readonly outstanding: number
  /**
   * Reads no more requests and waits until those that have come are answered and the connection has ended; after `timeout` (default: the
   * server's) what still runs is interrupted. Leaving the wait does not undo the drain.
   */
  readonly drain: (timeout?: Duration.Input) => Effect.Effect<void>
  /** Cuts the connection: with a reset, unless it is secured, has begun to end, or is on a Unix socket. */
  readonly destroy: () => void
}

type Run = (effect: Effect.Effect<void>) => Fiber.Fiber<void>

/** A connection with its socket. */
export class Served implements Connection {
  readonly connection: ServerConnection
  /** By the clock that measures. */
  readonly begunAt: number
  readonly #socket: Net.Socket
  readonly #drainMillis: number
  readonly #run: Run
  /** Who waits for the connection to end. */
  #waiting: Array<() => void> = []
  #ended = false

  constructor(socket: Net.Socket, connection: ServerConnection, begunAt: number, drainMillis: number, run: Run) {
    this.begunAt = begunAt
    this.#socket = socket
    this.connection = connection
    this.#drainMillis = drainMillis
    this.#run = run
  }

  get peer(): string {
    return this.connection.peer
  }

  get secured(): boolean {
    return this.#socket instanceof TLSSocket
  }

  get certificate(): X509Certificate | undefined {
    return this.#socket instanceof TLSSocket ? this.#socket.getPeerX509Certificate() : undefined
  }

  get outstanding(): number {
    return this.connection.outstanding
  }

  /** The connection is gone. */
  onClose(): void {
    this.#ended = true
    const waiting = this.#waiting
    this.#waiting = []
    for (const resume of waiting) resume()
  }

  readonly ended: Effect.Effect<void> = Effect.callback((resume) => {
    if (this.#ended) return resume(Effect.void)
    const done = () => resume(Effect.void)
    this.#waiting.push(done)
    return Effect.sync(() => {
      this.#waiting = this.#waiting.filter((other) => other !== done)
    })
  })

  // Not a race of Effects: a scope that closes because its fiber was interrupted must drain all the same, and cannot interrupt.
  readonly drain = (timeout?: Duration.Input): Effect.Effect<void> =>
    Effect.suspend(() => {
      this.connection.drain()
      if (this.#ended) return Effect.void
      const millis = timeout === undefined ? this.#drainMillis : Duration.toMillis(Duration.fromInputUnsafe(timeout))
      const timer = this.#run(Effect.andThen(Effect.sleep(millis), Effect.sync(() => this.connection.abort())))
      this.#waiting.push(() => timer.interruptUnsafe())
      return this.ended
    })

  readonly destroy = (): void => {
    const socket = this.#socket
    // One that has begun to end cannot be reset: Node then never closes it (seen on 24.21).
    if (socket.remotePort === undefined || socket.writableEnded || this.secured) socket.destroy()
    else socket.resetAndDestroy()
  }
}

/** Closes connections on which nothing has happened for so long, for ever. */
export const closeIdle = (
  served: ReadonlySet<Served>,
  idleMillis: number,
  now: () => number,
  counts: { idle: number }
): Effect.Effect<never> =>
  Effect.forever(Effect.suspend(() => {
    const time = now()
    let next = time + idleMillis
    for (const { connection } of served) {
      const due = connection.idleAt(idleMillis)
      if (due > time) next = Math.min(next, due)
      else {
        counts.idle++
        connection.abort()
      }
    }
    return Effect.sleep(next - time)
  }))

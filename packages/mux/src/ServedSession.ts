/** A connection of a mux server as its owner sees it: to be drained, leased, pinged or cut. */
import { addressOf } from "@scales-rpc/core/socket"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { X509Certificate } from "node:crypto"
import type * as Net from "node:net"
import { TLSSocket } from "node:tls"
import type { ServerSession } from "./ServerSession.ts"

/** One connection of a client. */
export interface ServedSession {
  /** The client's address, `host:port`; empty on a Unix socket. */
  readonly peer: string
  /** Whether it is encrypted by now. */
  readonly secured: boolean
  /** What the client has shown, and the server has found good; `undefined`: none was shown. */
  readonly certificate: X509Certificate | undefined
  /** Requests that have not been answered. */
  readonly outstanding: number
  /**
   * Asks the client to send no more, and waits until the connection has ended; after `timeout` (default: the server's) it
   * interrupts what still runs. Leaving the wait does not undo the drain.
   */
  readonly drain: (timeout?: Duration.Input) => Effect.Effect<void>
  /** Tells the client how long it may count on this server. */
  readonly lease: (duration: Duration.Input) => Effect.Effect<void>
  /** Waits until the client answers a ping. `false`: none could be sent, or the connection ended first. */
  readonly ping: Effect.Effect<boolean>
  /** Cuts the connection: a reset where the transport knows one. */
  readonly destroy: () => void
}

type Run = (effect: Effect.Effect<void>) => Fiber.Fiber<void>

/** A connection with its session. */
export class Served implements ServedSession {
  readonly peer: string
  readonly session: ServerSession
  /** By the clock that measures. */
  readonly acceptedAt: number
  /** Where the session's bytes go: what was accepted, or the socket that secures it. */
  socket: Net.Socket
  readonly #accepted: Net.Socket
  readonly #drainMillis: number
  readonly #run: Run
  /** Who waits for the connection to end. */
  #waiting: Array<() => void> = []
  #ended = false

  constructor(socket: Net.Socket, session: ServerSession, acceptedAt: number, drainMillis: number, run: Run) {
    this.acceptedAt = acceptedAt
    this.socket = socket
    this.#accepted = socket
    this.session = session
    this.#drainMillis = drainMillis
    this.#run = run
    this.peer = addressOf(socket.remoteAddress, socket.remotePort)
  }

  get secured(): boolean {
    return this.socket !== this.#accepted
  }

  get certificate(): X509Certificate | undefined {
    return this.socket instanceof TLSSocket ? this.socket.getPeerX509Certificate() : undefined
  }

  get outstanding(): number {
    return this.session.outstanding
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

  /** Interrupts what runs, and lets go of a socket that its peer does not read. */
  abort(): void {
    this.session.abort()
    if (this.socket.writableLength > 0) this.socket.destroy()
  }

  // Not a race of Effects: a scope that closes because its fiber was interrupted must drain all the same, and cannot interrupt.
  readonly drain = (timeout?: Duration.Input): Effect.Effect<void> =>
    Effect.suspend(() => {
      this.session.drain()
      if (this.#ended) return Effect.void
      const millis = timeout === undefined ? this.#drainMillis : Duration.toMillis(Duration.fromInputUnsafe(timeout))
      const timer = this.#run(Effect.andThen(Effect.sleep(millis), Effect.sync(() => this.abort())))
      this.#waiting.push(() => timer.interruptUnsafe())
      return this.ended
    })

  readonly lease = (duration: Duration.Input): Effect.Effect<void> =>
    Effect.sync(() => this.session.lease(Duration.toMillis(Duration.fromInputUnsafe(duration))))

  readonly ping: Effect.Effect<boolean> = Effect.raceFirst(
    Effect.callback<boolean>((resume) => {
      if (!this.session.ping(() => resume(Effect.succeed(true)))) resume(Effect.succeed(false))
    }),
    Effect.as(Effect.suspend(() => this.ended), false)
  )

  readonly destroy = (): void => {
    const { remotePort, writableEnded } = this.#accepted
    // One that has begun to end would be destroyed by a reset and never say that it is closed (Node 24).
    if (remotePort === undefined || writableEnded) this.#accepted.destroy()
    else this.#accepted.resetAndDestroy()
  }
}

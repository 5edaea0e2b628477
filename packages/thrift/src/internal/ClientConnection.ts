/**
 * The client's side of one Thrift connection, without the socket: bytes come in by `receive`, go out through a `MessageSink`. One call
 * at a time; whatever leaves it unsure which call the next bytes belong to ends the connection.
 */
import {
  abortFailure,
  type AbortListener,
  type AbortReason,
  type Attempt,
  CallAt,
  ConnectFailed,
  ConnectionClosed,
  type Deadlines,
  Direct,
  type Endpoint,
  Nacked,
  ProtocolError,
  type RpcError,
  StatusCell,
  type Timer,
  Unsendable
} from "@scales-rpc/core"
import { WriteChunks } from "@scales-rpc/core/socket"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { ThriftEncodeError, ThriftProtocolError } from "../errors.ts"
import { type MessageHeader, MessageType, type ProtocolReader } from "../Protocol.ts"
import type { ThriftRequest, ThriftResponse } from "../ThriftClient.ts"
import { chunksIn, chunksOf, type Framing, type Splitter } from "./Framing.ts"
import type { UpgradeCodec } from "./UpgradeCodec.ts"

/** Where the bytes of a connection go. */
export interface MessageSink {
  /** Writes chunks as one; calls `left` once they have been given to the operating system. */
  write(chunks: ReadonlyArray<Uint8Array>, left: (() => void) | undefined): void
  /** Whether it holds nothing of what it was given: those bytes may change. */
  taken(): boolean
}

/** Why a connection ended. */
export type ConnectionEnd = "client" | "server" | "error" | "abandoned" | "protocol_error"

/** All of them: `client`: closed from here; `server`: it ended the connection; `abandoned`: the caller of the call on it had gone. */
export const connectionEnds: ReadonlyArray<ConnectionEnd> = ["client", "server", "error", "abandoned", "protocol_error"]

/** What the connections of one transport have seen. */
export interface ConnectionCounts {
  calls: number
  /** Connections that ended because a call on them was not waited for any more. */
  abandoned: number
  /** Connections that the server closed while they were idle. */
  idleClosed: number
  /** Connections that ended because the server did not keep to the protocol. */
  protocolErrors: number
  /** Connections whose server knows Twitter's upgrade. */
  upgrades: number
}

/** What a connection is told by its transport. */
export interface ClientConnectionOptions {
  readonly endpoint: Endpoint
  readonly sink: MessageSink
  readonly framing: Framing
  readonly splitter: Splitter
  /** Reads the headers of replies: it may serve many connections. */
  readonly reader: ProtocolReader
  /** Twitter's upgrade, tried before anything else is sent; `undefined`: it is not. */
  readonly upgrade: UpgradeCodec | undefined
  readonly upgradeTimeoutMillis: number
  /** The stack's clock in milliseconds, and its timers. */
  readonly now: () => number
  readonly deadlines: Deadlines
  /** Lets the event loop read once (`Socket.turn`). */
  readonly turn: (f: () => void) => void
  readonly counts: ConnectionCounts
  /** The connection takes calls, or why it never will. */
  readonly onReady: (fault: RpcError | undefined) => void
  /** The caller of the call on it has gone, whose request has left: heard before the connection ends. */
  readonly onGivenUp: () => void
  /** The connection has ended: the transport closes the socket. Called once, after the call on it has been failed. */
  readonly onEnd: (why: ConnectionEnd, cause: unknown) => void
}

/**
 * A connection that was idle for this long, in milliseconds, is looked at before it is used: its server may have closed it, and that may lie unread in
 * the socket. Below that, the event loop has only just seen it.
 */
const looksAfter = 5

const empty: ThriftResponse = { body: new Uint8Array(0) }

/** What shows that a message is not the reply to a request. */
const mismatch = (
  { method, sequenceId }: ThriftRequest,
  { fname, mtype, rseqid }: MessageHeader
): string | undefined => {
  if (mtype !== MessageType.REPLY && mtype !== MessageType.EXCEPTION) {
    return `a message of type ${mtype} in answer to ${method}`
  }
  if (rseqid !== sequenceId) return `sequence id ${rseqid} in answer to ${method}, which has ${sequenceId}`
  // A multiplexed server that does not know the service names the method as it came, with the service
  if (fname === method || (mtype === MessageType.EXCEPTION && fname.endsWith(`:${method}`))) return undefined
  return `a reply to ${fname.slice(0, 100)} in answer to ${method}`
}

const unasked = "a message that no call has asked for"

/** How many oneway calls of a connection are remembered: a server that answers them all the same does so soon. */
const remembered = 64

/** The call that has the connection. */
class Exchange implements AbortListener {
  readonly connection: ClientConnection
  readonly request: ThriftRequest
  readonly attempt: Attempt
  readonly done: Direct.Done<ThriftResponse, RpcError>
  /** Its request has been handed to the socket: the server may have it. */
  written = false

  constructor(
    connection: ClientConnection,
    request: ThriftRequest,
    attempt: Attempt,
    done: Direct.Done<ThriftResponse, RpcError>
  ) {
    this.connection = connection
    this.request = request
    this.attempt = attempt
    this.done = done
  }

  onAbort(reason: AbortReason): void {
    const { endpoint } = this.attempt
    const { written } = this
    this.connection.abandon(this)
    this.done(Exit.fail(
      abortFailure(
        reason,
        written ? { waiting: "reply", reached: "maybe", endpoint } : { waiting: "queue", reached: "no", endpoint }
      )
    ))
  }
}

/** An exchange that ends before it has begun. */
const refuse = (done: Direct.Done<ThriftResponse, RpcError>, error: RpcError): undefined => {
  done(Exit.fail(error))
}

type Phase = "upgrading" | "open" | "ended"

/** One connection. */
export class ClientConnection {
  readonly status = new StatusCell("Idle")
  readonly #options: ClientConnectionOptions
  readonly #chunks: WriteChunks
  #phase: Phase = "upgrading"
  /** The server knows Twitter's upgrade. */
  #upgraded = false
  #exchange: Exchange | undefined
  /** What was waited for has come; nobody hears of it until all that came with it has been looked at. */
  #answered = false
  #reply: Exit.Exit<ThriftResponse> | undefined
  /**
   * Sequence ids of the last oneway calls. A server that does not know the method answers it as any other: that is no reply to the call that
   * has the connection by then.
   */
  readonly #oneways = new Set<number>()
  #idleSince: number
  #timer: Timer | undefined

  constructor(options: ClientConnectionOptions) {
    this.#options = options
    this.#chunks = new WriteChunks(() => options.sink.taken())
    this.#idleSince = options.now()
  }

  /** Whether a call has the connection. */
  get busy(): boolean {
    return this.#exchange !== undefined
  }

  /** Whether its server knows Twitter's upgrade. */
  get upgraded(): boolean {
    return this.#upgraded
  }

  /** Tries the upgrade if there is one to try. */
  start(): void {
    const { deadlines, framing, now, sink, upgrade, upgradeTimeoutMillis } = this.#options
    if (upgrade === undefined) return this.#ready()
    this.#timer = new CallAt(now() + upgradeTimeoutMillis, () => {
      this.#upgradeFailed(`no answer within ${upgradeTimeoutMillis} ms`)
    })
    deadlines.add(this.#timer, now())
    sink.write(chunksOf(framing, upgrade.offer()), undefined)
  }

  /** Bytes from the server. */
  receive(chunk: Uint8Array): void {
    if (this.#phase === "ended") return
    const { splitter } = this.#options
    if (this.#awaiting() || this.#oneways.size > 0) {
      try {
        splitter.push(chunk, this.#onMessage)
      } catch (error) {
        if (!(error instanceof ThriftProtocolError)) throw error
        this.#protocolError(error.message, error)
      }
      if (!this.#answered || splitter.pending === 0) return this.#settle()
    }
    this.#protocolError("bytes that no call has asked for")
  }

  /** The connection is gone. `cause`: what the socket said, `undefined` when the server ended it as one does. */
  connectionLost(cause: unknown): void {
    if (this.#phase === "ended") return
    const within = this.#options.splitter.pending > 0 ? " within a reply" : ""
    const said = cause ?? `the server closed the connection${within}`
    if (this.#phase === "upgrading") return this.#upgradeFailed(said)
    const exchange = this.#exchange
    const why = cause === undefined || isReset(cause) ? "server" : "error"
    if (exchange?.written === true) return this.#end(this.#closed("maybe", said), said, why)
    // Idle, or as good as idle. A server may close what nobody uses, with a reset if it likes: the next connection will tell how it is.
    this.#options.counts.idleClosed++
    this.#end(why === "server" ? undefined : this.#closed("no", said), said, why)
  }

  /** Ends the connection from this side; the call on it fails. */
  close(cause: unknown): void {
    this.#end(undefined, cause, "client")
  }

  /** Begins an exchange, whose end `done` hears; `undefined`: it has ended. */
  #begin(
    request: ThriftRequest,
    attempt: Attempt,
    done: Direct.Done<ThriftResponse, RpcError>
  ): Exchange | undefined {
    const { abort } = attempt
    const { endpoint, now } = this.#options
    if (abort.reason !== undefined) {
      return refuse(done, abortFailure(abort.reason, { waiting: "queue", reached: "no", endpoint }))
    }
    if (this.#phase !== "open") {
      return refuse(done, this.#closed("no", this.status.fault ?? "the connection is not open"))
    }
    if (this.#exchange !== undefined) {
      return refuse(
        done,
        new Nacked({ endpoint, why: "the connection has a call, and takes one at a time", retryable: true })
      )
    }
    const exchange = new Exchange(this, request, attempt, done)
    this.#exchange = exchange
    this.#options.counts.calls++
    abort.on(exchange)
    if (now() - this.#idleSince < looksAfter) this.#write(exchange)
    else this.#look(exchange)
    return exchange
  }

  /** One exchange. */
  readonly send = Direct.offer(
    (request: ThriftRequest, attempt: Attempt): Effect.Effect<ThriftResponse, RpcError> =>
      Effect.callback<ThriftResponse, RpcError>((resume) => {
        const exchange = this.#begin(request, attempt, resume)
        return exchange && Effect.sync(() => {
          attempt.abort.off(exchange)
          this.abandon(exchange)
        })
      }),
    {
      ready: () => this.#phase === "open" && this.#exchange === undefined,
      send: (request: ThriftRequest, attempt: Attempt, done: Direct.Done<ThriftResponse, RpcError>) =>
        void this.#begin(request, attempt, done)
    }
  )

  /**
   * Nobody waits for a call any more. If its request has left, the reply may come at any time, and must not meet another call: the
   * connection ends, without a fault, since its endpoint has none.
   */
  abandon(exchange: Exchange): void {
    if (this.#exchange !== exchange) return
    this.#exchange = undefined
    if (!exchange.written) return
    this.#options.counts.abandoned++
    this.#options.onGivenUp()
    this.#end(undefined, "its call was given up", "abandoned")
  }

  /** Lets the event loop read what has come, once: one turn may be over already but for its last part. */
  #look(exchange: Exchange): void {
    const { turn } = this.#options
    turn(() => {
      if (this.#exchange !== exchange) return
      turn(() => {
        if (this.#exchange === exchange) this.#write(exchange)
      })
    })
  }

  /** Sends a request. What is thrown on the way is the call's defect, here and a turn later, and the connection is free of the call. */
  #write(exchange: Exchange): void {
    const { deadlines, framing, now, sink, upgrade } = this.#options
    const { attempt, request } = exchange
    // Servers go by the wall's time.
    const { ahead } = deadlines
    let chunks: ReadonlyArray<Uint8Array>
    try {
      chunks = upgrade !== undefined && this.#upgraded
        ? chunksIn(
          this.#chunks.take,
          framing,
          upgrade.requestHeader({ ...attempt, deadline: attempt.deadline - ahead }, now() - ahead),
          request.body
        )
        : chunksIn(this.#chunks.take, framing, request.body)
    } catch (cause) {
      return this.#finish(
        cause instanceof ThriftEncodeError
          ? Exit.fail(new Unsendable({ what: cause.message, cause }))
          : Exit.die(cause)
      )
    }
    exchange.written = true
    try {
      sink.write(
        chunks,
        request.oneway
          ? () => {
            if (this.#exchange !== exchange) return
            this.#remember(request.sequenceId)
            this.#finish(Exit.succeed(empty))
          }
          : undefined
      )
      this.#chunks.written()
    } catch (defect) {
      if (this.#exchange !== exchange) throw defect
      // Nobody knows how much of it has left.
      this.#reply = Exit.die(defect)
      this.#end(undefined, defect, "error")
    }
  }

  #remember(oneway: number): void {
    this.#oneways.add(oneway)
    for (const oldest of this.#oneways) {
      if (this.#oneways.size <= remembered) return
      this.#oneways.delete(oldest)
    }
  }

  #awaiting(): boolean {
    const exchange = this.#exchange
    return this.#phase === "upgrading" || (exchange !== undefined && exchange.written && !exchange.request.oneway)
  }

  readonly #onMessage = (message: Uint8Array): void => {
    if (this.#phase === "ended") return
    const { reader, upgrade } = this.#options
    try {
      if (this.#phase === "upgrading") {
        if (this.#answered) return this.#protocolError(unasked)
        this.#upgraded = upgrade!.accepted(reader, message)
      } else {
        const body = this.#upgraded ? upgrade!.replyBody(reader, message) : message
        const header = reader.reset(body).readMessageBegin()
        if (this.#oneways.delete(header.rseqid)) return
        if (this.#answered || !this.#awaiting()) return this.#protocolError(unasked)
        const wrong = mismatch(this.#exchange!.request, header)
        if (wrong !== undefined) return this.#protocolError(wrong)
        this.#reply = Exit.succeed({ body })
      }
      this.#answered = true
    } catch (error) {
      if (!(error instanceof ThriftProtocolError)) throw error
      this.#protocolError(error.message, error)
    }
  }

  #ready(): void {
    this.#clearTimer()
    this.#phase = "open"
    this.#idleSince = this.#options.now()
    this.status.set("Open")
    this.#options.onReady(undefined)
  }

  /** Tells who waited, now that nothing else came with what they waited for. */
  #settle(): void {
    if (!this.#answered) return
    this.#answered = false
    if (this.#phase === "upgrading") {
      if (this.#upgraded) this.#options.counts.upgrades++
      return this.#ready()
    }
    const reply = this.#reply!
    this.#reply = undefined
    this.#finish(reply)
  }

  /** The call is over, and the connection is free for the next before anybody hears of it. */
  #finish(answer: Exit.Exit<ThriftResponse, RpcError>): void {
    const exchange = this.#exchange
    if (exchange === undefined) return
    this.#exchange = undefined
    this.#idleSince = this.#options.now()
    exchange.attempt.abort.off(exchange)
    exchange.done(answer)
  }

  #upgradeFailed(cause: unknown): void {
    const fault = new ConnectFailed({ endpoint: this.#options.endpoint, phase: "handshake", cause })
    this.#end(fault, cause, "error")
    this.#options.onReady(fault)
  }

  #protocolError(what: string, cause?: unknown): void {
    const fault = new ProtocolError({ endpoint: this.#options.endpoint, what, cause })
    if (this.#phase === "upgrading") return this.#upgradeFailed(fault)
    if (this.#phase === "ended") return
    this.#options.counts.protocolErrors++
    this.#end(fault, fault, "protocol_error")
  }

  /** Ends the connection: the status first, so that the call is not sent here again. A reply that was good is given all the same. */
  #end(fault: RpcError | undefined, cause: unknown, why: ConnectionEnd): void {
    if (this.#phase === "ended") return
    this.#phase = "ended"
    this.#clearTimer()
    this.status.set("Closed", fault)
    const exchange = this.#exchange
    if (exchange !== undefined) {
      this.#finish(
        this.#reply ?? Exit.fail(
          exchange.written && fault?._tag === "ProtocolError"
            ? fault
            : this.#closed(exchange.written ? "maybe" : "no", cause)
        )
      )
    }
    this.#answered = false
    this.#reply = undefined
    this.#options.onEnd(why, cause)
  }

  #closed(reached: "no" | "maybe", cause: unknown): ConnectionClosed {
    return new ConnectionClosed({ endpoint: this.#options.endpoint, reached, cause })
  }

  #clearTimer(): void {
    if (this.#timer !== undefined) this.#options.deadlines.remove(this.#timer)
    this.#timer = undefined
  }
}

const isReset = (cause: unknown): boolean =>
  cause instanceof Error && "code" in cause && (cause.code === "ECONNRESET" || cause.code === "EPIPE")

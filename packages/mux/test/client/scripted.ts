/** A client session without a socket or a clock: a scripted server takes its bytes and gives it others, time goes by when told. */
import { assert } from "@effect/vitest"
import {
  Abort,
  type AbortReason,
  type Attempt,
  beginAttempt,
  type Call,
  CallContext,
  classifyExit,
  Deadlines,
  Endpoint,
  type ReplyHeaders,
  type RpcError
} from "@scales-rpc/core"
import {
  type ChunkSink,
  decode,
  encode,
  Fragments,
  FrameReader,
  Message,
  type MuxRequest,
  type MuxResponse
} from "@scales-rpc/mux"
import { Cause, Effect, Exit, type Tracer } from "effect"
import { ClientContexts, type Marshalled } from "../../src/ClientContexts.ts"
import { ClientCounts } from "../../src/ClientCounts.ts"
import { ClientSession, type ClientSessionOptions } from "../../src/ClientSession.ts"
import { fromHex, initHeaders, none, toHex, utf8 } from "../vectors.ts"

/** Where the scripted server is. */
export const endpoint = Endpoint.tcp("h", 1)

/** Milliseconds since the epoch at which every test begins. */
export const epoch = 1_700_000_000_000

/** The real deadline queue over a clock that a test moves. */
export class FakeTime {
  now = epoch
  #sleeps: Array<{ readonly at: number; readonly wake: () => void }> = []
  readonly deadlines = new Deadlines(
    { currentTimeMillisUnsafe: () => this.now } as never,
    (millis, wake) => {
      const sleep = { at: this.now + millis, wake }
      this.#sleeps.push(sleep)
      return () => {
        this.#sleeps = this.#sleeps.filter((other) => other !== sleep)
      }
    }
  )

  /** Lets time pass; what is due on the way happens when it is due. */
  advance(millis: number): void {
    const until = this.now + millis
    for (;;) {
      const next = this.#sleeps.reduce<{ at: number; wake: () => void } | undefined>(
        (least, sleep) => sleep.at <= until && (least === undefined || sleep.at < least.at) ? sleep : least,
        undefined
      )
      if (next === undefined) break
      this.#sleeps = this.#sleeps.filter((other) => other !== next)
      this.now = Math.max(this.now, next.at)
      next.wake()
    }
    this.now = until
  }
}

/** Lets everything happen that is due in this turn, the session's write among it. */
export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** Marshals nothing, for golden frames without contexts. */
export class NoContexts extends ClientContexts {
  override marshal(): Marshalled {
    return { contexts: { count: 0, bytes: none }, destination: "", dtab: [], trace: undefined }
  }
}

/** What the session wrote, kept for the test; says that it is full when told to. */
export class Wire implements ChunkSink {
  readonly chunks: Array<Uint8Array> = []
  full = false

  write(chunk: Uint8Array): boolean {
    this.chunks.push(chunk)
    return !this.full
  }
}

/** One call, from its start to its end. */
export class Sent {
  readonly call: Call
  readonly attempt: Attempt
  exit: Exit.Exit<MuxResponse, RpcError> | undefined
  /** How often it ended. */
  ends = 0
  readonly interrupt: () => void

  constructor(driven: Driven, body: string | Uint8Array, options: SendOptions = {}) {
    const { time } = driven
    const timeoutMillis = options.timeoutMillis ?? 60_000
    const abort = new Abort(time.now + timeoutMillis, timeoutMillis)
    this.call = {
      service: "test",
      method: "call",
      idempotent: false,
      deadline: options.withoutDeadline === true ? Infinity : time.now + timeoutMillis,
      context: options.context ?? CallContext.empty,
      abort,
      tried: [...options.tried ?? []],
      classify: classifyExit,
      reply: options.reply,
      span: options.span,
      trace: options.trace ?? options.span
    }
    this.attempt = beginAttempt(this.call, endpoint, () => time.now)
    const request: MuxRequest = { body: typeof body === "string" ? utf8(body) : body }
    time.deadlines.add(abort, time.now)
    const fiber = Effect.runFork(driven.session.send(request, this.attempt))
    fiber.addObserver((exit) => {
      time.deadlines.remove(abort)
      this.exit = exit
      this.ends++
    })
    this.interrupt = () => fiber.interruptUnsafe()
  }

  /** Ends the call from outside. */
  abort(reason: AbortReason): void {
    this.call.abort.abort(reason)
  }

  /** The text of the reply; fails the test when there is none. */
  get text(): string {
    return Buffer.from(this.response.body).toString()
  }

  /** The reply; fails the test when there is none. */
  get response(): MuxResponse {
    assert.strictEqual(this.ends, 1, "the call has not ended")
    const exit = this.exit!
    if (Exit.isFailure(exit)) throw new Error(`the call failed: ${Cause.pretty(exit.cause)}`)
    return exit.value
  }

  /** What it failed with; fails the test when it did not. */
  get error(): RpcError {
    assert.strictEqual(this.ends, 1, "the call has not ended")
    const exit = this.exit!
    assert.isTrue(Exit.isFailure(exit), "the call succeeded")
    const reason = Exit.isFailure(exit) ? exit.cause.reasons[0] : undefined
    assert.isTrue(reason !== undefined && Cause.isFailReason(reason), "the call did not fail with a typed error")
    return (reason as Cause.Fail<RpcError>).error
  }

  /** Whether it ended by interruption alone. */
  get interrupted(): boolean {
    return this.exit !== undefined && Exit.isFailure(this.exit) && Cause.hasInterruptsOnly(this.exit.cause)
  }
}

/** What a test may say of one call. */
export interface SendOptions {
  readonly timeoutMillis?: number
  readonly withoutDeadline?: boolean
  readonly context?: CallContext
  readonly span?: Tracer.Span
  readonly trace?: Tracer.AnySpan
  readonly tried?: ReadonlyArray<Endpoint>
  readonly reply?: ReplyHeaders
}

/** A session with its scripted server. */
export class Driven {
  readonly time = new FakeTime()
  readonly wire = new Wire()
  readonly counts = new ClientCounts({ elapsed: () => this.time.now, metrics: { on: true } })
  readonly session: ClientSession
  /** What `onReady` was told, each time. */
  readonly ready: Array<RpcError | undefined> = []
  /** How often `onEnd` was called. */
  ended = 0
  /** Every state the session has told of. */
  readonly states: Array<string> = []
  readonly sent: Array<Sent> = []
  readonly #fragments = new Fragments()
  readonly #reader = new FrameReader()
  /** Tags whose discard has been read, and which the server has not answered since. */
  readonly unanswered = new Set<number>()

  constructor(options: Partial<ClientSessionOptions> = {}) {
    this.session = new ClientSession({
      endpoint,
      sink: this.wire,
      limits: Message.defaultLimits,
      window: 0x7fffffff,
      pingIntervalMillis: 5000,
      pingTimeoutMillis: 4000,
      handshakeTimeoutMillis: 1000,
      now: () => this.time.now,
      deadlines: this.time.deadlines,
      contexts: new NoContexts(() => 0.5),
      counts: this.counts,
      onReady: (fault) => void this.ready.push(fault),
      onEnd: () => void this.ended++,
      ...options
    })
    this.session.status.subscribe(() => void this.states.push(this.session.status.state))
  }

  /** A call. */
  send(body: string | Uint8Array, options?: SendOptions): Sent {
    const sent = new Sent(this, body, options)
    this.sent.push(sent)
    return sent
  }

  /** Bytes from the server. */
  deliver(...frames: ReadonlyArray<string | Message.Message>): void {
    const chunks = frames.map((frame) => Buffer.from(typeof frame === "string" ? fromHex(frame) : encode(frame)))
    for (const chunk of chunks) {
      if (chunk.length < 8) continue
      const type = chunk.readInt8(4)
      if ((type < 0 && type !== Message.Type.OldTdiscarded) || type === Message.Type.OldRerr) {
        this.unanswered.delete(chunk.readUIntBE(5, 3))
      }
    }
    this.session.receive(Buffer.concat(chunks))
  }

  /** The messages written since it was last asked, after this turn has ended. */
  async take(): Promise<Array<Message.Message>> {
    await turn()
    return this.read()
  }

  /** What has been written since it was last asked, after this turn has ended: one text a write. */
  async hex(): Promise<Array<string>> {
    await turn()
    const texts = this.wire.chunks.map(toHex)
    this.read()
    return texts
  }

  /** The messages written since it was last asked. */
  read(): Array<Message.Message> {
    const messages: Array<Message.Message> = []
    for (const chunk of this.wire.chunks.splice(0)) {
      this.#reader.push(chunk, (type, tagBits, frame) => {
        const body = this.#fragments.push(type, tagBits, frame)
        if (body === undefined) return
        const message = decode(type, tagBits & Message.maxTag, body)
        if (message._tag === "Tdiscarded") this.unanswered.add(message.which)
        messages.push(message)
      })
    }
    return messages
  }

  /** The end of every test: nothing is held but what must be, and nothing at all once the session is closed. */
  async finish(): Promise<void> {
    await this.take()
    const { session, time } = this
    if (session.status.state !== "Closed") {
      const waiting = this.sent.filter((sent) => sent.ends === 0).length
      assert.strictEqual(session.outstanding, waiting, "calls outstanding")
      assert.strictEqual(session.tagsInUse, waiting + this.unanswered.size, "tags in use")
      session.close("the test is over")
    }
    assert.strictEqual(session.status.state, "Closed")
    assert.strictEqual(session.outstanding, 0)
    assert.strictEqual(this.ended, 1, "onEnd is called once")
    assert.isAtMost(this.ready.length, 1, "onReady is called once at most")
    for (const sent of this.sent) {
      assert.strictEqual(sent.ends, 1, "every call ends once")
      assert.strictEqual(sent.call.abort.listeners, 0, "nobody listens for the abort of a call that has ended")
    }
    assert.strictEqual(time.deadlines.size, 0, "no timer is left")
    const writes = this.wire.chunks.length
    session.writable()
    await turn()
    assert.strictEqual(this.wire.chunks.length, writes, "a closed session writes nothing")
  }
}

/** A session whose handshake is over and whose first ping is answered. */
export const opened = async (
  options: Partial<ClientSessionOptions> = {},
  headers: ReadonlyArray<Message.Pair> = initHeaders
): Promise<Driven> => {
  const driven = new Driven(options)
  driven.session.start()
  driven.deliver({ _tag: "Rerr", tag: 1, why: "tinit check" })
  driven.deliver({ _tag: "Rinit", tag: 1, version: 1, headers })
  driven.deliver({ _tag: "Rping", tag: 1 })
  await driven.take()
  assert.strictEqual(driven.session.status.state, "Open")
  return driven
}

/** A good reply. */
export const ok = (tag: number, text: string, contexts: ReadonlyArray<Message.Pair> = []): Message.Rdispatch => ({
  _tag: "Rdispatch",
  tag,
  status: 0,
  contexts,
  body: utf8(text)
})

/** The window header of an Rinit. */
export const framer = (window: number): ReadonlyArray<Message.Pair> => {
  const value = Buffer.alloc(4)
  value.writeInt32BE(window)
  return [[utf8("mux-framer"), value]]
}

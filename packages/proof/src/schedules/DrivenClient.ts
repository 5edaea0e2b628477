/** A client session without a socket, and the calls that are made with it. */
import {
  Abort,
  type AbortReason,
  beginAttempt,
  CallContext,
  classifyExit,
  Endpoint,
  type RpcError
} from "@scales-rpc/core"
import { Message, type MuxResponse } from "@scales-rpc/mux"
import { Cause, Effect, Exit } from "effect"
import { ClientContexts, type Marshalled } from "../../../mux/src/ClientContexts.ts"
import { ClientCounts } from "../../../mux/src/ClientCounts.ts"
import { ClientSession } from "../../../mux/src/ClientSession.ts"
import { must } from "./explore.ts"
import { Time } from "./Time.ts"
import { Wire } from "./Wire.ts"

const endpoint = Endpoint.tcp("h", 1)
const encoder = new TextEncoder()
const none = new Uint8Array(0)

/** Text in bytes. */
export const text = (of: string): Uint8Array => encoder.encode(of)

/** Marshals nothing: requests as short as they get. */
class NoContexts extends ClientContexts {
  override marshal(): Marshalled {
    return { contexts: { count: 0, bytes: none }, destination: "", dtab: [], trace: undefined }
  }
}

/** What differs between sessions. */
export interface ClientOptions {
  readonly maxTag: number
  readonly pingIntervalMillis: number
  readonly pingTimeoutMillis: number
  /** Requests carry a trace and a deadline. */
  readonly contexts: boolean
}

/** A session with what it is made of. */
export class Client {
  readonly time = new Time()
  readonly wire = new Wire()
  readonly maxTag: number
  readonly session: ClientSession
  /** How often `onReady` was called. */
  ready = 0
  /** How often `onEnd` was called. */
  ended = 0

  constructor(options: ClientOptions) {
    this.maxTag = options.maxTag
    const random = () => 0.5
    const counts = new ClientCounts({ elapsed: () => this.time.now, metrics: { on: true } })
    this.session = new ClientSession({
      endpoint,
      sink: this.wire,
      limits: Message.defaultLimits,
      window: 0x7fffffff,
      maxTag: options.maxTag,
      pingIntervalMillis: options.pingIntervalMillis,
      pingTimeoutMillis: options.pingTimeoutMillis,
      handshakeTimeoutMillis: 1000,
      now: () => this.time.now,
      deadlines: this.time.deadlines,
      contexts: options.contexts ? new ClientContexts(random) : new NoContexts(random),
      counts,
      onReady: () => this.ready++,
      onEnd: () => {
        this.ended++
        this.wire.ended = true
      }
    })
  }
}

/** A call as the model knows it. */
export interface Caller {
  readonly id: number
  /** Bytes of its request: the id, padding, and a last byte that depends on the id. */
  readonly length: number
  /** Milliseconds at which it must have ended. */
  readonly due: number
  /** How it may have been ended from this side. */
  readonly aborts: Set<string>
  /** What the server has answered it with. */
  readonly answers: Set<string>
  readonly abort: (reason: AbortReason) => void
  readonly interrupt: () => void
  readonly listeners: () => number
  /** It was made while the session took calls. */
  readonly accepted: boolean
  /** The server has had all of the request. */
  arrived: boolean
  /** How often it ended, and how at last. */
  ends: number
  exit: Exit.Exit<MuxResponse, RpcError> | undefined
}

/** Makes a call. */
export const caller = (client: Client, id: number, padding: Uint8Array, timeoutMillis: number): Caller => {
  const { session, time } = client
  const body = new Uint8Array(padding.length + 3)
  body[0] = id >> 8
  body[1] = id
  body.set(padding, 2)
  body[body.length - 1] = id % 251
  const due = time.now + timeoutMillis
  const { state } = session.status
  const abort = new Abort(due, timeoutMillis)
  const attempt = beginAttempt(
    {
      service: "test",
      method: "call",
      idempotent: false,
      deadline: due,
      context: CallContext.empty,
      abort,
      tried: [],
      classify: classifyExit,
      reply: undefined,
      span: undefined,
      trace: undefined
    },
    endpoint,
    () => time.now
  )
  time.deadlines.add(abort, time.now)
  const fiber = Effect.runFork(session.send({ body }, attempt))
  const made: Caller = {
    id,
    length: body.length,
    due,
    aborts: new Set(["Timeout"]),
    answers: new Set(),
    abort: (reason) => {
      made.aborts.add(reason._tag)
      abort.abort(reason)
    },
    interrupt: () => {
      made.aborts.add("interrupted")
      fiber.interruptUnsafe()
    },
    listeners: () => abort.listeners,
    accepted: state === "Open" || state === "Busy",
    arrived: false,
    ends: 0,
    exit: undefined
  }
  fiber.addObserver((exit) => {
    time.deadlines.remove(abort)
    made.exit = exit
    made.ends++
  })
  return made
}

/** What a call came to, checked against what was done to it. `over`: its session was ended by something else than a drain. */
export const checkEnd = (
  { aborts, accepted, answers, arrived, ends, exit, id, listeners }: Caller,
  over: boolean
): void => {
  must(ends === 1 && exit !== undefined, () => `call ${id} ended ${ends} times`)
  must(listeners() === 0, () => `call ${id} leaves a listener`)
  if (Exit.isSuccess(exit)) {
    const reply = Buffer.from(exit.value.body).toString()
    return must(reply === `${id}` && answers.has("ok"), () => `call ${id} got the reply ${reply}`)
  }
  if (Cause.hasInterruptsOnly(exit.cause)) {
    return must(aborts.has("interrupted"), () => `call ${id} was interrupted by nobody`)
  }
  const fail = exit.cause.reasons.find(Cause.isFailReason)
  must(fail !== undefined, () => `call ${id} died: ${Cause.pretty(exit.cause)}`)
  const { error } = fail
  const wrong = () => `call ${id} failed with ${error._tag}: ${error.message}`
  must(error.reached !== "no" || !arrived || answers.has("rejected"), () => `${wrong()}, and it had arrived`)
  switch (error._tag) {
    case "Timeout":
    case "Superseded":
    case "StackClosed":
      return must(aborts.has(error._tag), wrong)
    case "ServerFailed":
      return must(error.why === `${id}` ? answers.has("failed") : answers.has("discarded"), wrong)
    case "Nacked":
      return must(
        error.why === `${id}` ? answers.has("rejected") : error.why !== "early" || answers.has("early"),
        wrong
      )
    case "ConnectionClosed":
      return must(over || !accepted, wrong)
    case "ProtocolError":
      return must(over, wrong)
    default:
      return must(false, wrong)
  }
}

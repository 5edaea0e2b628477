/**
 * The session against a server that does anything a server may do, and some things it may not, in random order. Checked throughout: a
 * call ends once and with what happened to it, a tag is never on two requests at a time, a discard never hits another's request; at
 * the end: the tags in use are those that the server has not answered, and after the close nothing is left.
 */
import { assert, describe, it } from "@effect/vitest"
import { decode, encode, Fragments, FrameReader, Message, MuxFailure, muxFailureContext } from "@scales-rpc/mux"
import { Cause, Exit } from "effect"
import { random, utf8 } from "../vectors.ts"
import { Driven, framer, type Sent, turn } from "./scripted.ts"

const schedules = 2000
const steps = 80

/** Longer than what is written at once. */
const bulk = Buffer.alloc(140_000, "x")

/** `assert` would take most of the time: there are half a million checks. */
const must = (holds: boolean, what: () => string): void => {
  if (!holds) assert.fail(what())
}

/** A call as the model knows it. */
interface Caller {
  readonly id: number
  readonly sent: Sent
  /** Bytes of its request: the id, padding, and a last byte that depends on the id. */
  readonly length: number
  /** How it may have been ended from this side. */
  readonly aborts: Set<string>
  /** What the server has answered it with. */
  readonly answers: Set<string>
  /** The server has had all of the request. */
  arrived: boolean
}

/** The server's side of one schedule. */
class Server {
  readonly driven: Driven
  readonly callers: Array<Caller>
  readonly next: (below: number) => number
  /** Requests that were read and not answered, by tag. */
  readonly pending = new Map<number, Caller>()
  /** Tags of which some fragments have been read. */
  readonly partial = new Set<number>()
  /** Tags that the client holds for requests that it has discarded half sent. */
  readonly held = new Set<number>()
  /** Tags answered before their request was there, by a server that cannot wait. */
  readonly early = new Set<number>()
  /** A ping was read and not answered. */
  pinged = false
  /** Those of `held` whose discard was read before it: its answer says that none of theirs will come. */
  heldBefore: ReadonlyArray<number> = []
  drains = 0
  /** Replies of which fragments are still to be sent. */
  replies: Array<{ readonly tag: number; readonly frames: Array<Uint8Array> }> = []
  readonly #reader = new FrameReader()
  readonly #fragments = new Fragments()

  constructor(driven: Driven, callers: Array<Caller>, next: (below: number) => number) {
    this.driven = driven
    this.callers = callers
    this.next = next
  }

  /** Reads all that was written. */
  read(): void {
    for (const chunk of this.driven.wire.chunks.splice(0)) this.#reader.push(chunk, this.#onFrame)
  }

  readonly #onFrame = (type: number, tagBits: number, frame: Uint8Array): void => {
    const tag = tagBits & Message.maxTag
    if (tagBits !== tag || (type === Message.Type.Tdispatch && this.partial.has(tag))) {
      must(!this.pending.has(tag), () => `a fragment on tag ${tag}, which waits for its answer`)
      this.partial.add(tag)
    }
    const body = this.#fragments.push(type, tagBits, frame)
    if (body === undefined) return
    this.#onMessage(decode(type, tag, body))
  }

  #onMessage(message: Message.Message): void {
    const { tag } = message
    switch (message._tag) {
      case "Tdispatch":
      case "Treq": {
        this.partial.delete(tag)
        must(!this.pending.has(tag), () => `two requests on tag ${tag}`)
        must(!this.held.has(tag), () => `a request on tag ${tag}, which is held`)
        const { body } = message
        const caller = this.callers[(body[0]! << 8) | body[1]!]!
        must(body.length === caller.length && body.at(-1) === caller.id % 251, () => `half of request ${caller.id}`)
        caller.arrived = true
        this.pending.set(tag, caller)
        return
      }
      case "Tdiscarded": {
        const { which } = message
        const caller = this.pending.get(which)
        must(caller?.sent.ends !== 0, () => `a discard of call ${caller?.id}, which waits`)
        if (this.partial.delete(which) && !this.early.delete(which)) this.held.add(which)
        return
      }
      case "Tping":
        this.pinged = true
        this.heldBefore = [...this.held]
        return
      case "Rdrain":
        this.drains--
        must(this.drains >= 0, () => "an Rdrain that nobody asked for")
        return
      case "Rping":
        must(tag === 7, () => `an Rping with tag ${tag}`)
        return
      default:
        assert.fail(`the client sent a ${message._tag}`)
    }
  }

  /** Answers some request that was read, in some way. */
  answer(): void {
    const waiting = [...this.pending].filter(([tag]) => !this.replies.some((reply) => reply.tag === tag))
    if (waiting.length === 0) return
    const [tag, caller] = waiting[this.next(waiting.length)]!
    const id = `${caller.id}`
    const kind = this.next(12)
    if (kind < 6) {
      caller.answers.add("ok")
      return this.#reply(tag, { _tag: "Rdispatch", tag, status: 0, contexts: [], body: utf8(id) })
    }
    const flags = this.next(2) === 0
      ? []
      : [muxFailureContext([MuxFailure.Retryable, MuxFailure.Rejected][this.next(2)]!)]
    switch (kind) {
      case 6:
        caller.answers.add("ok")
        return this.#last(tag, { _tag: "Rreq", tag, status: 0, body: utf8(id) })
      case 7:
        caller.answers.add("failed").add("rejected")
        return this.#reply(tag, { _tag: "Rdispatch", tag, status: 1, contexts: flags, body: utf8(id) })
      case 8:
        caller.answers.add("rejected")
        return this.#reply(tag, { _tag: "Rdispatch", tag, status: 2, contexts: flags, body: utf8(id) })
      case 9:
        caller.answers.add("failed")
        // Where nothing shows yet that the server knows a Tdispatch, this says that it did not act on it, and a Treq follows.
        caller.arrived = false
        this.#last(tag, { _tag: "Rerr", tag, why: id })
        caller.arrived ||= caller.sent.ends > 0
        return
      case 10:
        if (caller.sent.ends === 0 && this.next(4) > 0) return
        caller.answers.add("discarded")
        return this.#last(tag, { _tag: "Rdiscarded", tag })
      default:
        // Not answered for now.
        return
    }
  }

  /** A reply, in fragments now and then, which leave one at a time. */
  #reply(tag: number, message: Message.Rdispatch): void {
    const whole = encode(message)
    if (this.next(3) > 0) return this.#last(tag, whole)
    const body = whole.subarray(8)
    const frames: Array<Uint8Array> = []
    for (let at = 0; at < body.length;) {
      const slice = body.subarray(at, at + 1 + this.next(body.length - at))
      at += slice.length
      const frame = Buffer.alloc(8 + slice.length)
      frame.writeUInt32BE(4 + slice.length)
      frame.writeInt8(Message.Type.Rdispatch, 4)
      frame.writeUIntBE(at < body.length ? tag | Message.fragmentBit : tag, 5, 3)
      frame.set(slice, 8)
      frames.push(frame)
    }
    this.replies.push({ tag, frames })
  }

  /** The last of an answer: from here on the tag is the client's again. */
  #last(tag: number, frame: Uint8Array | Message.Message): void {
    this.pending.delete(tag)
    this.driven.session.receive(frame instanceof Uint8Array ? frame : encode(frame))
  }

  /** Sends one fragment of one of the replies that are under way. */
  fragment(): void {
    if (this.replies.length === 0) return
    const reply = this.replies[this.next(this.replies.length)]!
    const frame = reply.frames.shift()!
    if (reply.frames.length > 0) return this.driven.session.receive(frame)
    this.replies = this.replies.filter((other) => other !== reply)
    this.#last(reply.tag, frame)
  }

  /** Answers the ping that was read. */
  pong(): void {
    if (!this.pinged) return
    this.pinged = false
    for (const tag of this.heldBefore) this.held.delete(tag)
    this.driven.session.receive(encode({ _tag: "Rping", tag: 1 }))
  }

  /** Answers a discard whose request never came in full. */
  answerHeld(): void {
    const [tag] = this.held
    if (tag === undefined) return
    this.held.delete(tag)
    this.driven.session.receive(encode({ _tag: "Rdiscarded", tag }))
  }

  /** Refuses a request of which only fragments have come. */
  answerEarly(): void {
    this.read()
    const [tag] = [...this.partial].filter((partial) => !this.early.has(partial))
    if (tag === undefined) return
    const before = this.callers.filter(({ sent }) => sent.ends > 0).length
    for (const caller of this.callers) if (caller.sent.ends === 0) caller.answers.add("early")
    this.driven.session.receive(encode({ _tag: "Rdispatch", tag, status: 2, contexts: [], body: utf8("early") }))
    // When nobody waited for it, the client had given it up, and this has ended the hold before the discard could leave.
    if (this.callers.filter(({ sent }) => sent.ends > 0).length === before) this.early.add(tag)
  }

  /** Answers what nobody has asked. */
  spurious(): void {
    this.read()
    const tag = this.next(12)
    if (this.pending.has(tag) || this.held.has(tag) || this.partial.has(tag)) return
    const body = utf8("nobody's")
    const frames: ReadonlyArray<Message.Message> = [
      { _tag: "Rdispatch", tag, status: 0, contexts: [], body },
      { _tag: "Rreq", tag, status: 0, body },
      { _tag: "Rerr", tag, why: "nobody's" },
      { _tag: "Rdiscarded", tag }
    ]
    this.driven.session.receive(encode(frames[this.next(frames.length)]!))
  }
}

/** What a call came to, checked against what was done to it. */
const check = ({ aborts, answers, arrived, id, sent }: Caller, garbage: boolean): void => {
  const { exit } = sent
  must(sent.ends === 1, () => `call ${id} ended ${sent.ends} times`)
  must(sent.call.abort.listeners === 0, () => `call ${id} leaves a listener`)
  if (Exit.isSuccess(exit!)) {
    return must(sent.text === `${id}` && answers.has("ok"), () => `call ${id} got ${sent.text}`)
  }
  if (Cause.hasInterruptsOnly(exit!.cause)) {
    return must(aborts.has("interrupted"), () => `call ${id} was interrupted by nobody`)
  }
  const { error } = sent
  const wrong = () => `call ${id} failed with ${error._tag}: ${error.message}`
  if (error.reached === "no") must(!arrived || answers.has("rejected"), () => `${wrong()}, and it had arrived`)
  switch (error._tag) {
    case "Timeout":
    case "Superseded":
      return must(aborts.has(error._tag), wrong)
    case "ServerFailed":
      return must(error.why === `${id}` ? answers.has("failed") : answers.has("discarded"), wrong)
    case "Nacked":
      return must(
        error.why === `${id}` ? answers.has("rejected") : error.why !== "early" || answers.has("early"),
        wrong
      )
    case "ConnectionClosed":
      return
    case "ProtocolError":
      return must(garbage, wrong)
    default:
      assert.fail(wrong())
  }
}

const run = async (seed: number): Promise<void> => {
  const next = random(seed * 7919)
  const driven = new Driven({
    maxTag: next(3) === 0 ? 2 + next(8) : 100,
    pingIntervalMillis: next(2) === 0 ? 5000 : 200,
    pingTimeoutMillis: next(3) === 0 ? 4000 : 1e9
  })
  const callers: Array<Caller> = []
  const server = new Server(driven, callers, next)
  let garbage = false
  // Requests that leave half, since they are longer than what is written at once, need a window.
  const large = next(6) === 0
  const window = large ? framer(20_000 + next(50_000)) : next(2) === 0 ? framer(1 + next(40)) : []
  driven.session.start()
  driven.deliver({ _tag: "Rerr", tag: 1, why: "tinit check" })
  driven.deliver({ _tag: "Rinit", tag: 1, version: 1, headers: window })
  await driven.take()
  server.pinged = true

  const some = (): Caller | undefined => {
    const live = callers.filter(({ sent }) => sent.ends === 0)
    return live[next(live.length || 1)]
  }
  const call = () => {
    const id = callers.length
    const padding = large && next(4) === 0 ? bulk : bulk.subarray(0, next(4) === 0 ? next(400) : next(10))
    const body = Buffer.concat([Uint8Array.of(id >> 8, id), padding, Uint8Array.of(id % 251)])
    const timeoutMillis = 1 + next(8000)
    const sent = driven.send(body, { timeoutMillis })
    callers.push({
      id,
      length: body.length,
      sent,
      aborts: new Set(["Timeout"]),
      answers: new Set(),
      arrived: false
    })
  }
  const drain = () => {
    server.drains++
    driven.session.receive(encode({ _tag: "Tdrain", tag: 1 }))
  }
  const step = (): unknown => {
    const dice = next(1000)
    if (dice < 180) return call()
    if (dice < 270) return server.read()
    if (dice < 500) return server.answer()
    if (dice < 560) return server.fragment()
    if (dice < 600) {
      const caller = some()
      caller?.aborts.add("interrupted")
      return caller?.sent.interrupt()
    }
    if (dice < 630) {
      const caller = some()
      caller?.aborts.add("Superseded")
      return caller?.sent.abort({ _tag: "Superseded" })
    }
    if (dice < 680) return driven.time.advance(next(1500))
    if (dice < 720) {
      driven.wire.full = next(2) === 0
      return
    }
    if (dice < 770) {
      driven.session.writable()
      return
    }
    if (dice < 800) return server.spurious()
    if (dice < 815) return server.answerHeld()
    if (dice < 840) return server.answerEarly()
    if (dice < 880) return server.pong()
    if (dice < 900) return driven.session.receive(encode({ _tag: "Tping", tag: 7 }))
    if (dice < 915) {
      const howMuch = BigInt(next(3000))
      return driven.session.receive(encode({ _tag: "Tlease", tag: 0, unit: 0, howMuch }))
    }
    if (dice < 917) return drain()
    if (dice < 918) {
      garbage = true
      return driven.session.receive(Buffer.from("0000000403000001", "hex"))
    }
    if (dice < 919) return driven.session.connectionLost("lost")
    if (dice < 920) return driven.session.close("closed")
    return turn()
  }

  for (let i = 0; i < steps; i++) {
    await step()
    const waiting = callers.filter(({ sent }) => sent.ends === 0).length
    const { outstanding, tagsInUse } = driven.session
    must(outstanding === waiting, () => `step ${i}: ${outstanding} calls outstanding, ${waiting} wait`)
    must(driven.session.status.state === "Closed" || tagsInUse >= waiting, () => `step ${i}: too few tags`)
  }

  // Everything leaves and is read, then the tags in use are those that the server has not answered.
  driven.wire.full = false
  driven.session.writable()
  await turn()
  const closed = driven.session.status.state === "Closed"
  server.read()
  if (!closed) {
    assert.strictEqual(server.partial.size, 0, "no request is left half sent")
    assert.deepStrictEqual([...server.pending.keys()].filter((tag) => server.held.has(tag)), [])
    assert.strictEqual(driven.session.tagsInUse, server.pending.size + server.held.size, "tags in use")
    if (next(2) === 0) {
      drain()
      while (server.replies.length > 0) server.fragment()
      for (const [tag, caller] of [...server.pending]) {
        caller.answers.add("ok")
        driven.session.receive(encode({ _tag: "Rreq", tag, status: 0, body: utf8(`${caller.id}`) }))
      }
      await turn()
      assert.strictEqual(driven.session.status.state, "Closed")
      assert.isUndefined(driven.session.status.fault)
    } else driven.session.close("the test is over")
  }
  for (const caller of callers) check(caller, garbage)
  assert.strictEqual(driven.ended, 1)
  assert.strictEqual(driven.time.deadlines.size, 0, "no timer is left")
  assert.strictEqual(driven.session.outstanding, 0)
}

describe("any schedule", () => {
  it(`of ${schedules} keeps the rules`, { timeout: 60_000 }, async () => {
    const only = Number(process.env["MUX_SEED"] ?? 0)
    for (let seed = only || 1; seed <= (only || schedules); seed++) {
      try {
        await run(seed)
      } catch (error) {
        throw new Error(`seed ${seed} (again with MUX_SEED=${seed}): ${(error as Error).message}`, { cause: error })
      }
    }
  })
})

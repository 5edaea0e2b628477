/**
 * The client's session against a server that does anything a server may do, and some things it may not. Checked throughout: a call ends
 * once and with what happened to it, a tag is never on two requests at a time, a discard never hits another's request; at the end: the
 * tags in use are those that the server has not answered, and after the close nothing is left.
 */
import { encode, type Message, MuxFailure, muxFailureContext } from "@scales-rpc/mux"
import { type Caller, caller, checkEnd, Client, text } from "./DrivenClient.ts"
import { must, type Subject, turn } from "./explore.ts"
import type { Schedule, Step } from "./grammar.ts"
import { cut, garbage, windowHeader } from "./Wire.ts"

/** Longer than what is written at once. */
const bulk = new Uint8Array(140_000).fill(120)

/** The server's side of one schedule. */
class Server {
  readonly client: Client
  readonly callers: Array<Caller> = []
  /** Requests that were read and not answered, by tag. */
  readonly pending = new Map<number, Caller>()
  /** Tags that the client holds for requests that it has discarded half sent. */
  readonly held = new Set<number>()
  /** Tags answered before their request was there, by a server that cannot wait. */
  readonly early = new Set<number>()
  /** The part of the handshake that was read and not answered. */
  asked: "probe" | "init" | undefined = undefined
  /** A ping was read and not answered. */
  pinged = false
  /** Those of `held` whose discard was read before it: its answer says that none of theirs will come. */
  heldBefore: ReadonlyArray<number> = []
  drains = 0
  /** The session was ended: by what no server may send, by a cut, from this side. */
  over = false
  /** Replies of which fragments are still to be sent. */
  replies: Array<{ readonly tag: number; readonly frames: Array<Uint8Array> }> = []
  readonly options: Schedule["options"]

  constructor(options: Schedule["options"]) {
    this.options = options
    this.client = new Client({
      maxTag: options["tags"]! < 3 ? 2 + 3 * options["tags"]! : 0x7fffff,
      pingIntervalMillis: options["pings"] === 1 ? 200 : 5000,
      pingTimeoutMillis: options["pings"] === 2 ? 4000 : 1e9,
      contexts: options["contexts"] === 1
    })
  }

  /** Reads all that was written. */
  read(): void {
    this.client.wire.read(this.#onMessage, this.#onFragment)
  }

  readonly #onFragment = (tag: number): void => {
    must(!this.pending.has(tag), () => `a fragment on tag ${tag}, which waits for its answer`)
    must(!this.held.has(tag), () => `a fragment on tag ${tag}, which is held`)
  }

  readonly #onMessage = (message: Message.Message): void => {
    const { tag } = message
    switch (message._tag) {
      case "Tdispatch":
      case "Treq": {
        must(!this.pending.has(tag), () => `two requests on tag ${tag}`)
        must(!this.held.has(tag), () => `a request on tag ${tag}, which is held`)
        must(tag >= 2, () => `a request on tag ${tag}`)
        const { body } = message
        const caller = this.callers[(body[0]! << 8) | body[1]!]
        must(caller !== undefined, () => "a request of nobody")
        must(body.length === caller.length && body.at(-1) === caller.id % 251, () => `half of request ${caller.id}`)
        caller.arrived = true
        this.pending.set(tag, caller)
        return
      }
      case "Tdiscarded": {
        const { which } = message
        const caller = this.pending.get(which)
        must(caller?.ends !== 0, () => `a discard of call ${caller?.id}, which waits`)
        if (this.client.wire.partial.delete(which) && !this.early.delete(which)) this.held.add(which)
        return
      }
      case "Tping":
        must(!this.pinged, () => "a ping while another is out")
        this.pinged = true
        this.heldBefore = [...this.held]
        return
      case "Rdrain":
        this.drains--
        must(this.drains >= 0, () => "an Rdrain that nobody asked for")
        return
      case "Rping":
        return must(tag === 7, () => `an Rping with tag ${tag}`)
      case "Rerr":
        must(this.asked === undefined && message.why === "tinit check", () => `an Rerr: ${message.why}`)
        this.asked = "probe"
        return
      case "Tinit":
        this.asked = "init"
        return
      default:
        must(false, () => `the client sent a ${message._tag}`)
    }
  }

  /** Sends a message, in chunks as the schedule has them. */
  send(message: Uint8Array | Message.Message): void {
    const bytes = message instanceof Uint8Array ? message : encode(message)
    const chunk = this.options["chunk"]!
    if (chunk < 3) return this.client.session.receive(bytes)
    for (let at = 0; at < bytes.length; at += chunk) this.client.session.receive(bytes.subarray(at, at + chunk))
  }

  /** Answers what was read of the handshake; `how` 0 to 7 as it should be. */
  hello(how: number): void {
    const { asked } = this
    this.asked = undefined
    if (asked === "probe") {
      return this.send({ _tag: "Rerr", tag: 1, why: how === 8 ? "Unexpected mux message type 127" : "tinit check" })
    }
    if (asked === undefined) return
    if (how === 8) return this.send({ _tag: "Rerr", tag: 1, why: "no" })
    const { window } = this.options
    const bytes = window === 0 ? 0x7fffffff : this.options["large"] === 0 ? 20_000 + 500 * window! : window!
    this.client.wire.window = bytes
    const headers = windowHeader(how === 9 ? 0 : bytes)
    return this.send({ _tag: "Rinit", tag: 1, version: how === 10 ? 2 : 1, headers })
  }

  /** Answers some request that was read. */
  answer(which: number, kind: number, flag: number, size: number): void {
    const waiting = [...this.pending].filter(([tag]) => !this.replies.some((reply) => reply.tag === tag))
    if (waiting.length === 0) return
    const [tag, caller] = waiting[which % waiting.length]!
    const id = `${caller.id}`
    const body = text(id)
    const flags = flag === 0 ? [] : [muxFailureContext([MuxFailure.Retryable, MuxFailure.Rejected][flag - 1]!)]
    switch (kind) {
      case 0:
        caller.answers.add("ok")
        return this.#last(tag, { _tag: "Rreq", tag, status: 0, body })
      case 1:
        caller.answers.add("failed").add("rejected")
        return this.#reply(tag, { _tag: "Rdispatch", tag, status: 1, contexts: flags, body }, size)
      case 2:
        caller.answers.add("rejected")
        return this.#reply(tag, { _tag: "Rdispatch", tag, status: 2, contexts: flags, body }, size)
      case 3:
        caller.answers.add("failed")
        // Where nothing shows yet that the server knows a Tdispatch, this says that it did not act on it, and a Treq follows.
        caller.arrived = false
        this.#last(tag, { _tag: "Rerr", tag, why: id })
        caller.arrived ||= caller.ends > 0
        return
      case 4:
        caller.answers.add("discarded")
        return this.#last(tag, { _tag: "Rdiscarded", tag })
      default:
        caller.answers.add("ok")
        return this.#reply(tag, { _tag: "Rdispatch", tag, status: 0, contexts: flags, body }, size)
    }
  }

  /** A reply, in fragments when it has a size for them, which leave one at a time. */
  #reply(tag: number, message: Message.Rdispatch, size: number): void {
    const whole = encode(message)
    if (size === 0) return this.#last(tag, whole)
    this.replies.push({ tag, frames: cut(whole, size) })
  }

  /** The last of an answer: from here on the tag is the client's again, and nobody waits for it. */
  #last(tag: number, frame: Uint8Array | Message.Message): void {
    const caller = this.pending.get(tag)!
    this.pending.delete(tag)
    this.send(frame)
    const again = !(frame instanceof Uint8Array) && frame._tag === "Rerr"
    must(again || caller.ends === 1, () => `call ${caller.id} was answered and waits`)
  }

  /** Sends one fragment of one of the replies that are under way. */
  fragment(which: number): void {
    if (this.replies.length === 0) return
    const reply = this.replies[which % this.replies.length]!
    const frame = reply.frames.shift()!
    if (reply.frames.length > 0) return this.send(frame)
    this.replies = this.replies.filter((other) => other !== reply)
    this.#last(reply.tag, frame)
  }

  /** Breaks off a reply of which fragments have left: the tag is free all the same, and they must not stand before the next. */
  breakOff(which: number, discarded: boolean): void {
    if (this.replies.length === 0) return
    const reply = this.replies[which % this.replies.length]!
    this.replies = this.replies.filter((other) => other !== reply)
    const { tag } = reply
    const caller = this.pending.get(tag)!
    if (discarded) {
      caller.answers.add("discarded")
      return this.#last(tag, { _tag: "Rdiscarded", tag })
    }
    caller.answers.add("failed")
    caller.arrived = false
    this.#last(tag, { _tag: "Rerr", tag, why: `${caller.id}` })
    caller.arrived ||= caller.ends > 0
  }

  /** Answers the ping that was read. */
  pong(): void {
    if (!this.pinged) return
    this.pinged = false
    for (const tag of this.heldBefore) this.held.delete(tag)
    this.send({ _tag: "Rping", tag: 1 })
  }

  /** Answers a discard whose request never came in full. */
  answerHeld(): void {
    const [tag] = this.held
    if (tag === undefined) return
    this.held.delete(tag)
    this.send({ _tag: "Rdiscarded", tag })
  }

  /** Refuses a request of which only fragments have come. */
  refuse(): void {
    this.read()
    const [tag] = [...this.client.wire.partial].filter((partial) => !this.early.has(partial))
    if (tag === undefined) return
    const before = this.callers.filter(({ ends }) => ends > 0).length
    for (const caller of this.callers) if (caller.ends === 0) caller.answers.add("early")
    this.send({ _tag: "Rdispatch", tag, status: 2, contexts: [], body: text("early") })
    // When nobody waited for it, the client had given it up, and this has ended the hold before the discard could leave.
    if (this.callers.filter(({ ends }) => ends > 0).length === before) this.early.add(tag)
  }

  /** Answers what nobody has asked. */
  spurious(tag: number, kind: number): void {
    this.read()
    if (this.asked !== undefined || this.pending.has(tag) || this.held.has(tag)) return
    if (this.client.wire.partial.has(tag)) return
    const body = text("nobody's")
    const frames: ReadonlyArray<Message.Message> = [
      { _tag: "Rdispatch", tag, status: 0, contexts: [], body },
      { _tag: "Rreq", tag, status: 0, body },
      { _tag: "Rerr", tag, why: "nobody's" },
      { _tag: "Rdiscarded", tag }
    ]
    this.send(frames[kind]!)
  }

  drain(): void {
    // Asked before the session is open, it is an answer to the handshake, and none that a client knows.
    if (this.client.session.status.state === "Idle") return
    this.drains++
    this.send({ _tag: "Tdrain", tag: 1 })
  }

  call(size: number, timeoutMillis: number): void {
    const id = this.callers.length
    const { session } = this.client
    const large = this.options["large"] === 0 && size % 4 === 0
    const padding = large ? bulk : bulk.subarray(0, size > 90 ? 4 * size : size % 10)
    const room = session.tagsInUse < this.client.maxTag - 1
    const open = session.status.state === "Open"
    const made = caller(this.client, id, padding, 1 + timeoutMillis)
    this.callers.push(made)
    must(!open || !room || made.ends === 0, () => `an open session refused call ${id}`)
  }

  #waiting(which: number): Caller | undefined {
    const waiting = this.callers.filter(({ ends }) => ends === 0)
    return waiting[which % waiting.length]
  }

  take([name, a = 0, b = 0, c = 0, d = 0]: Step): Promise<void> | void {
    const { session, time, wire } = this.client
    switch (name) {
      case "call":
        return this.call(a, b)
      case "read":
        return this.read()
      case "hello":
        this.read()
        return this.hello(a)
      case "answer":
        return this.answer(a, b, c, d)
      case "fragment":
        return this.fragment(a)
      case "break off":
        return this.breakOff(a, b === 0)
      case "interrupt":
        return this.#waiting(a)?.interrupt()
      case "supersede":
        return this.#waiting(a)?.abort({ _tag: "Superseded" })
      case "close stack":
        return this.#waiting(a)?.abort({ _tag: "StackClosed", stack: "test" })
      case "pass":
        return time.advance(a)
      case "full":
        wire.full = a === 0
        return
      case "writable":
        wire.full = a === 0
        return session.writable()
      case "spurious":
        return this.spurious(a, b)
      case "answer held":
        return this.answerHeld()
      case "refuse":
        return this.refuse()
      case "pong":
        this.read()
        return this.pong()
      case "ping":
        if (session.status.state === "Idle") return
        return this.send({ _tag: "Tping", tag: 7 })
      case "lease":
        if (session.status.state === "Idle") return
        return this.send({ _tag: "Tlease", tag: 0, unit: 0, howMuch: BigInt(a) })
      case "drain":
        return this.drain()
      case "garbage":
        this.over = true
        return session.receive(Buffer.from(garbage[a]!, "hex"))
      case "lost":
        this.over = true
        return session.connectionLost("lost")
      case "close":
        this.over = true
        return session.close("closed")
      default:
        return turn()
    }
  }

  /** What holds at every time. */
  check(at: string): void {
    const { session, time, wire } = this.client
    let waiting = 0
    for (const caller of this.callers) {
      if (caller.ends > 0) continue
      waiting++
      must(caller.due > time.now, () => `${at}: call ${caller.id} waits since ${time.now - caller.due} ms too long`)
    }
    const closed = session.status.state === "Closed"
    const { outstanding, tagsInUse } = session
    must(outstanding === waiting, () => `${at}: ${outstanding} calls outstanding, ${waiting} wait`)
    must(closed || tagsInUse >= waiting, () => `${at}: ${tagsInUse} tags for ${waiting} calls`)
    const timers = time.deadlines.size - waiting
    must(timers >= 0 && timers <= (closed ? 0 : 2), () => `${at}: ${timers} timers beside those of calls`)
    must(wire.late === 0, () => `${at}: bytes after the end`)
    must(this.client.ended === (closed ? 1 : 0), () => `${at}: the end was told ${this.client.ended} times`)
  }

  /** Everything leaves and is read, then the tags in use are those that the server has not answered. */
  async finish(): Promise<void> {
    const { session, time, wire } = this.client
    wire.full = false
    session.writable()
    await turn()
    this.read()
    this.check("before the end")
    if (session.status.state === "Idle") session.close("the schedule is over")
    if (session.status.state !== "Closed") {
      must(wire.partial.size === 0, () => "a request is left half sent")
      const open = [...this.pending.keys()].filter((tag) => !this.held.has(tag)).length + this.held.size
      must(session.tagsInUse === open, () => `${session.tagsInUse} tags in use, ${open} answers owed`)
      if (this.options["gracefully"] === 0) await this.#endGracefully()
      else {
        this.over = true
        session.close("the schedule is over")
      }
    }
    // A ping may have gone unanswered too.
    const over = this.over || this.options["pings"] === 2
    for (const caller of this.callers) checkEnd(caller, over)
    const { ended, ready } = this.client
    must(ended === 1, () => `the end was told ${ended} times`)
    must(ready <= 1, () => `ready was told ${ready} times`)
    must(time.deadlines.size === 0, () => `${time.deadlines.size} timers are left`)
    must(session.outstanding === 0, () => `${session.outstanding} calls are left`)
    const { unread } = wire
    session.writable()
    session.receive(encode({ _tag: "Tping", tag: 7 }))
    await turn()
    must(wire.unread === unread && wire.late === 0, () => "a closed session writes")
  }

  async #endGracefully(): Promise<void> {
    const { session } = this.client
    this.drain()
    while (this.replies.length > 0) this.fragment(0)
    for (const [tag, caller] of this.pending) {
      caller.answers.add("ok")
      this.send({ _tag: "Rreq", tag, status: 0, body: text(`${caller.id}`) })
    }
    await turn()
    must(session.status.state === "Closed", () => "all is answered, and the drained session lives on")
    must(session.status.fault === undefined, () => "a drained session has a fault")
    this.read()
    must(this.drains === 0, () => "no Rdrain has come")
  }
}

/** The client's session. */
export const client: Subject = {
  name: "client",
  grammar: {
    options: { handshake: 8, tags: 9, pings: 3, window: 40, large: 16, chunk: 12, contexts: 4, gracefully: 2 },
    steps: {
      call: { weight: 180, numbers: [100, 8000] },
      read: { weight: 90, numbers: [] },
      hello: { weight: 30, numbers: [11] },
      answer: { weight: 230, numbers: [16, 14, 3, 20] },
      fragment: { weight: 70, numbers: [8] },
      "break off": { weight: 15, numbers: [8, 2] },
      interrupt: { weight: 40, numbers: [16] },
      supersede: { weight: 25, numbers: [16] },
      "close stack": { weight: 10, numbers: [16] },
      pass: { weight: 50, numbers: [1500] },
      full: { weight: 40, numbers: [2] },
      writable: { weight: 50, numbers: [3] },
      spurious: { weight: 30, numbers: [12, 4] },
      "answer held": { weight: 15, numbers: [] },
      refuse: { weight: 25, numbers: [] },
      pong: { weight: 40, numbers: [] },
      ping: { weight: 20, numbers: [] },
      lease: { weight: 20, numbers: [3000] },
      drain: { weight: 5, numbers: [] },
      garbage: { weight: 2, numbers: [garbage.length] },
      lost: { weight: 3, numbers: [] },
      close: { weight: 3, numbers: [] },
      turn: { weight: 80, numbers: [] }
    }
  },
  run: async ({ options, steps }) => {
    const server = new Server(options)
    server.client.session.start()
    for (let part = 0; part < 2 && options["handshake"]! > 0; part++) {
      await turn()
      server.read()
      server.hello(0)
    }
    for (const [at, step] of steps.entries()) {
      await server.take(step)
      await turn()
      server.check(`step ${at}, ${step[0]}`)
    }
    await server.finish()
  }
}

/**
 * The server's session against a client that does anything a client may do, and some things it may not, and an owner that answers in any
 * order, twice, late or never. Checked throughout: each request is handed over once and whole, each tag gets one answer, its own; what
 * runs is what was neither answered nor interrupted; at the end nothing is left.
 */
import {
  encode,
  Message,
  type ServerConnection,
  ServerCounts,
  type ServerExchange,
  ServerSession
} from "@scales-rpc/mux"
import { must, type Subject, turn } from "./explore.ts"
import type { Schedule, Step } from "./grammar.ts"
import { cut, garbage, windowHeader, Wire } from "./Wire.ts"

/** Longer than what is written at once. */
const bulk = new Uint8Array(140_000).fill(120)

/** Long enough for a few of them to be a backlog. */
const flood = new Uint8Array(1_500_000).fill(121)

/** The connection as the session sees it. */
class Connection extends Wire implements ServerConnection {
  paused = false
  /** How often it was ended, by either way. */
  ends = 0

  end(): void {
    this.ends++
    this.ended = true
  }

  destroy(): void {
    this.ends++
    this.ended = true
  }

  pause(): void {
    this.paused = true
  }

  resume(): void {
    this.paused = false
  }
}

/** A request from its first byte to its answer. */
interface Asked {
  readonly id: number
  readonly tag: number
  readonly kind: "Tdispatch" | "Treq"
  readonly length: number
  /** What is still to be sent. */
  readonly frames: Array<Uint8Array>
  /** The client has asked for it not to be answered. */
  discarded: boolean
  exchange: ServerExchange | undefined
  /** How the owner has answered it. */
  replied: { readonly status: number; readonly length: number } | undefined
  /** How often `onInterrupt` was called. */
  interrupts: number
}

/** The two ends around one session: its client and its owner. */
class Ends {
  readonly connection = new Connection()
  readonly session: ServerSession
  readonly options: Schedule["options"]
  readonly asked: Array<Asked> = []
  /** By tag: what has no answer, as the client sees it. */
  readonly open = new Map<number, Asked>()
  /** Tests of the handshake and pings that have no answer yet. */
  pings = 0
  initialized = 0
  ended = 0
  /** The server has asked for a drain, and the client has agreed. */
  drainAsked = false
  granted = false
  /** A Tping was read and not answered. */
  pinged = false
  /** The server wants a pong, which has not come. */
  expected = false
  pongs = 0
  /** Something was sent that ends a session, or the session was ended from here. */
  over = false
  /** A tag was used twice. */
  doubled = false
  /** Errors that may come, by tag: a message was sent that a server does not expect. */
  readonly errors = new Map<number, number>()
  readonly counts = new ServerCounts()

  constructor(options: Schedule["options"]) {
    this.options = options
    this.session = new ServerSession({
      connection: this.connection,
      limits: Message.defaultLimits,
      window: 0x7fffffff,
      counts: this.counts,
      onRequest: this.#onRequest,
      onEnd: () => this.ended++
    })
  }

  readonly #onRequest = (exchange: ServerExchange): void => {
    const { _tag, body, tag } = exchange.request
    const asked = this.asked[(body[0]! << 8) | body[1]!]
    must(asked !== undefined, () => "a request of nobody")
    const { id, kind, length } = asked
    must(asked.exchange === undefined, () => `request ${id} was handed over twice`)
    must(body.length === length && body.at(-1) === id % 251, () => `half of request ${id}`)
    must(_tag === kind && tag === asked.tag, () => `request ${id} became a ${_tag} on tag ${tag}`)
    asked.exchange = exchange
    exchange.onInterrupt = () => {
      must(exchange.interruption !== undefined, () => `request ${id} is interrupted without a reason`)
      asked.interrupts++
    }
    if (this.options["eager"] === 0 && id % 3 === 0) this.#reply(asked, 0, 0)
  }

  /** Sends bytes, in chunks as the schedule has them. */
  send(message: Uint8Array | Message.Message): void {
    const bytes = message instanceof Uint8Array ? message : encode(message)
    const chunk = this.options["chunk"]!
    if (chunk < 3) return this.session.receive(bytes)
    for (let at = 0; at < bytes.length; at += chunk * 7) this.session.receive(bytes.subarray(at, at + chunk * 7))
  }

  /** What the client reads of what was written. */
  read(): void {
    this.connection.read(this.#onMessage, (tag) => {
      must(this.open.has(tag), () => `a fragment of a reply on tag ${tag}, which asks nothing`)
    })
  }

  readonly #onMessage = (message: Message.Message): void => {
    const { tag } = message
    switch (message._tag) {
      case "Rdispatch":
      case "Rreq": {
        const asked = this.#answered(tag, message._tag)
        const { id, kind, replied } = asked
        must((kind === "Treq") === (message._tag === "Rreq"), () => `a ${message._tag} to a ${kind}`)
        if (message.status === 2 && message.body.length === 0) {
          return must(this.granted && replied === undefined, () => `request ${id} was nacked by no drain`)
        }
        must(replied !== undefined, () => `request ${id} was answered by nobody`)
        const { body, status } = message
        const whole = body.length === replied.length && ((body[0]! << 8) | body[1]!) === id && body.at(-1) === id % 251
        return must(whole && status === replied.status, () => `request ${id} got another's reply, or half of its own`)
      }
      case "Rdiscarded":
        return must(this.#answered(tag, message._tag).discarded, () => `tag ${tag} was discarded by nobody`)
      case "Rerr": {
        if (message.why.startsWith("Received duplicate tag")) return must(this.doubled, () => message.why)
        const allowed = this.errors.get(tag) ?? 0
        must(allowed > 0, () => `an Rerr on tag ${tag}: ${message.why}`)
        this.errors.set(tag, allowed - 1)
        return
      }
      case "Rinit":
        this.initialized--
        return must(this.initialized >= 0, () => "an Rinit that nobody asked for")
      case "Rping":
        this.pings--
        return must(this.pings >= 0 && tag === 9, () => `an Rping that nobody asked for, with tag ${tag}`)
      case "Tping":
        must(this.expected, () => "a ping that nobody wants")
        this.pinged = true
        return
      case "Tdrain":
        must(!this.drainAsked, () => "a second Tdrain")
        this.drainAsked = true
        return
      case "Tlease":
        return
      default:
        must(false, () => `the server sent a ${message._tag}`)
    }
  }

  #answered(tag: number, by: string): Asked {
    const asked = this.open.get(tag)
    must(asked !== undefined, () => `a ${by} on tag ${tag}, which asks nothing`)
    this.open.delete(tag)
    return asked
  }

  /** A request begins, on the smallest tag that the client has free; its fragments leave one at a time. */
  request(size: number, old: boolean, fragment: number): void {
    let tag = 2
    while (this.open.has(tag)) tag++
    this.#send(tag, size, old, fragment)
  }

  #send(tag: number, size: number, old: boolean, fragment: number): void {
    const id = this.asked.length
    const large = this.options["large"] === 0 && size % 4 === 0
    const padding = large ? bulk : bulk.subarray(0, size > 90 ? 4 * size : size % 10)
    const body = Buffer.concat([Uint8Array.of(id >> 8, id), padding, Uint8Array.of(id % 251)])
    const kind = old ? "Treq" : "Tdispatch"
    const frame = encode(
      old
        ? { _tag: "Treq", tag, trace: undefined, body }
        : { _tag: "Tdispatch", tag, contexts: [], destination: "", dtab: [], body }
    )
    const frames = old || fragment === 0 ? [frame] : cut(frame, large ? 30_000 * fragment : fragment)
    const asked: Asked = {
      id,
      tag,
      kind,
      length: body.length,
      frames,
      discarded: false,
      exchange: undefined,
      replied: undefined,
      interrupts: 0
    }
    this.asked.push(asked)
    this.open.set(tag, asked)
    this.send(frames.shift()!)
  }

  /** Sends the next fragment of a request that is under way. */
  fragment(which: number): void {
    const under = [...this.open.values()].filter(({ discarded, frames }) => frames.length > 0 && !discarded)
    const asked = under[which % under.length]
    if (asked !== undefined) this.send(asked.frames.shift()!)
  }

  /** A second request on the tag of one that runs. */
  double(which: number): void {
    const running = this.running
    const asked = running[which % running.length]
    if (asked === undefined || asked.discarded) return
    this.doubled = true
    this.#send(asked.tag, 0, false, 0)
  }

  discard(which: number): void {
    const open = [...this.open.values()].filter(({ discarded }) => !discarded)
    const asked = open[which % open.length]
    if (asked === undefined) return
    asked.discarded = true
    const runs = asked.exchange !== undefined && asked.replied === undefined && asked.interrupts === 0
    this.send({ _tag: "Tdiscarded", tag: 0, which: asked.tag, why: "unwanted" })
    must(!runs || asked.interrupts === 1, () => `request ${asked.id} was discarded and runs on`)
  }

  /** Requests that the owner works on. */
  get running(): Array<Asked> {
    return this.asked.filter(({ exchange, interrupts, replied }) =>
      exchange !== undefined && replied === undefined && interrupts === 0
    )
  }

  reply(which: number, status: number, size: number): void {
    const { running } = this
    const asked = running[which % running.length]
    if (asked !== undefined) this.#reply(asked, status, size)
  }

  #reply(asked: Asked, status: number, size: number): void {
    const { id } = asked
    const large = this.options["large"] === 0 && size % 4 === 0
    const padding = large ? (size % 8 === 0 ? flood : bulk) : bulk.subarray(0, size > 90 ? 4 * size : size % 10)
    const body = Buffer.concat([Uint8Array.of(id >> 8, id), padding, Uint8Array.of(id % 251)])
    asked.replied = { status, length: body.length }
    asked.exchange!.reply(status as Message.Status, body)
  }

  /** Answers what has been answered, or is no longer wanted: nobody may hear of it. */
  replyAgain(which: number): void {
    const done = this.asked.filter(({ exchange, interrupts, replied }) =>
      exchange !== undefined && (replied !== undefined || interrupts > 0)
    )
    done[which % done.length]?.exchange!.reply(0, Uint8Array.of(255, 255))
  }

  /** Sends what a server does not expect, and goes on. */
  unexpected(kind: number): void {
    const tag = 5000
    const frames: ReadonlyArray<Message.Message> = [
      { _tag: "Rdispatch", tag, status: 0, contexts: [], body: new Uint8Array(0) },
      { _tag: "Tdrain", tag },
      { _tag: "Rerr", tag, why: "unexpected" },
      { _tag: "Rdiscarded", tag },
      { _tag: "Tlease", tag: 0, unit: 0, howMuch: 5n }
    ]
    const message = frames[kind]!
    this.errors.set(message.tag, (this.errors.get(message.tag) ?? 0) + 1)
    this.send(message)
  }

  /** One step of a handshake, whose place the schedule chooses: `how` 0 the probe, 1 to 8 a Tinit that is good, then bad ones. */
  hello(how: number): void {
    const tag = 1
    this.errors.set(tag, (this.errors.get(tag) ?? 0) + 1)
    if (how === 0) return this.send({ _tag: "Rerr", tag, why: "tinit check" })
    this.initialized++
    const { window } = this.options
    const bytes = window === 0 ? 0x7fffffff : this.options["large"] === 0 ? 20_000 + 500 * window! : window!
    const headers = [
      ...windowHeader(how === 9 ? 0 : bytes),
      ...(how === 10 ? [[Buffer.from("tls"), Buffer.from("required")] as const] : [])
    ]
    this.send({ _tag: "Tinit", tag, version: how === 11 ? 2 : 1, headers })
    this.connection.window = this.session.window
  }

  take([name, a = 0, b = 0, c = 0]: Step): Promise<void> | void {
    const { connection, session } = this
    switch (name) {
      case "request":
        return this.request(a, b === 0, c)
      case "fragment":
        return this.fragment(a)
      case "double":
        return this.double(a)
      case "reply":
        return this.reply(a, b > 2 ? 0 : b, c)
      case "reply again":
        return this.replyAgain(a)
      case "discard":
        return this.discard(a)
      case "discard nobody's":
        return this.send({ _tag: "Tdiscarded", tag: 0, which: 6000 + a, why: "unwanted" })
      case "read":
        return this.read()
      case "ping":
        this.pings++
        return this.send({ _tag: "Tping", tag: 9 })
      case "server ping":
        if (session.ping(() => this.pongs++)) this.expected = true
        return
      case "pong":
        return this.pong(a === 0)
      case "lease":
        return session.lease(a)
      case "drain":
        return session.drain()
      case "agree":
        return this.agree()
      case "unexpected":
        return this.unexpected(a)
      case "hello":
        return this.hello(a)
      case "full":
        connection.full = a === 0
        return
      case "drained":
        connection.full = a === 0
        return session.drained()
      case "abort":
        this.over = true
        return session.abort()
      case "garbage":
        this.over = true
        return session.receive(Buffer.from(garbage[a]!, "hex"))
      case "lost":
        this.over = true
        connection.ended = true
        return session.closed("lost")
      default:
        return turn()
    }
  }

  /** Answers the ping that was read, or when `again` is set one that never came. */
  pong(again: boolean): void {
    this.read()
    if (!this.pinged && (!again || this.expected)) return
    if (!this.pinged) {
      const { pongs } = this
      this.errors.set(1, (this.errors.get(1) ?? 0) + 1)
      this.send({ _tag: "Rping", tag: 1 })
      return must(this.pongs === pongs, () => "an answer to no ping was told")
    }
    this.pinged = false
    const before = this.pongs
    const alive = this.ended === 0 && this.connection.ends === 0
    this.expected = false
    this.send({ _tag: "Rping", tag: 1 })
    must(!alive || this.pongs <= before + 1, () => "one answer to a ping was told twice")
  }

  /** Agrees to a drain. */
  agree(): void {
    this.read()
    if (!this.drainAsked || this.granted) return
    this.granted = true
    this.send({ _tag: "Rdrain", tag: 1 })
  }

  /** What holds at every time. */
  check(at: string): void {
    const { connection, counts, session } = this
    const running = this.running.length
    must(session.outstanding === running, () => `${at}: ${session.outstanding} outstanding, ${running} run`)
    must(connection.late === 0, () => `${at}: bytes after the end`)
    must(this.ended <= 1, () => `${at}: the end was told ${this.ended} times`)
    for (const { id, interrupts, replied } of this.asked) {
      must(interrupts <= (replied === undefined ? 1 : 0), () => `${at}: request ${id} was interrupted for nothing`)
    }
    const given = this.asked.filter(({ exchange }) => exchange !== undefined).length
    must(counts.requests === given, () => `${at}: ${counts.requests} requests counted, ${given} handed over`)
    must(counts.duplicateTags <= (this.doubled ? 1 : 0), () => `${at}: a tag was found used twice`)
    must(this.ended === 0 || (running === 0 && session.queued === 0), () => `${at}: the session ended with work left`)
  }

  /** Everything leaves and is read; the owner answers what it has; then the session is drained, or its connection lost. */
  async finish(): Promise<void> {
    const { connection, session } = this
    connection.full = false
    session.drained()
    await turn()
    this.read()
    this.check("before the end")
    const alive = this.ended === 0
    if (alive) {
      must(!connection.paused, () => "a connection without a backlog is paused")
      must(session.queued === 0, () => `${session.queued} messages have not left`)
      must(this.pings === 0, () => `${this.pings} pings have no answer`)
      for (const { discarded, exchange, frames, id, replied } of this.open.values()) {
        must(!discarded, () => `the discard of request ${id} has no answer`)
        must(replied === undefined, () => `the reply to request ${id} did not leave`)
        must(exchange !== undefined || frames.length > 0, () => `request ${id} was never handed over`)
      }
    }
    const under = [...this.open.values()].filter(({ frames }) => frames.length > 0).length
    must(!alive || session.reassembling === under, () => `${session.reassembling} reassembled, ${under} under way`)
    if (alive && this.options["gracefully"] === 0) await this.#endGracefully()
    else if (alive) session.closed("the schedule is over")
    // As a connection does that has ended.
    session.closed(undefined)
    must(this.ended === 1, () => `the end was told ${this.ended} times`)
    must(session.outstanding === 0 && session.queued === 0, () => "the ended session has work left")
    must(session.reassembling === 0, () => "the ended session keeps fragments")
    must(this.running.length === 0, () => "a request was not interrupted")
    const { unread } = connection
    connection.ended = true
    session.drained()
    session.receive(encode({ _tag: "Tping", tag: 9 }))
    session.drain()
    session.lease(5)
    for (const { exchange } of this.asked) exchange?.reply(0, new Uint8Array(3))
    await turn()
    this.check("after the end")
    must(connection.unread === unread, () => "an ended session writes")
  }

  async #endGracefully(): Promise<void> {
    const { connection, session } = this
    session.drain()
    await turn()
    this.agree()
    while (this.running.length > 0) this.reply(0, 0, 1)
    await turn()
    this.read()
    must(this.ended === 1 && connection.ends === 1, () => "all is answered, and the drained session lives on")
    const left = [...this.open.values()].filter(({ exchange }) => exchange !== undefined)
    must(left.length === 0, () => `request ${left[0]?.id} was drained without its reply`)
  }
}

/** The server's session. */
export const server: Subject = {
  name: "server",
  grammar: {
    options: { handshake: 8, window: 40, large: 24, chunk: 12, eager: 3, gracefully: 2 },
    steps: {
      request: { weight: 220, numbers: [100, 4, 20] },
      fragment: { weight: 90, numbers: [8] },
      reply: { weight: 180, numbers: [16, 8, 100] },
      "reply again": { weight: 25, numbers: [16] },
      discard: { weight: 70, numbers: [16] },
      "discard nobody's": { weight: 8, numbers: [4] },
      double: { weight: 4, numbers: [16] },
      read: { weight: 120, numbers: [] },
      ping: { weight: 20, numbers: [] },
      "server ping": { weight: 15, numbers: [] },
      pong: { weight: 20, numbers: [3] },
      lease: { weight: 10, numbers: [3000] },
      drain: { weight: 10, numbers: [] },
      agree: { weight: 15, numbers: [] },
      unexpected: { weight: 10, numbers: [5] },
      hello: { weight: 10, numbers: [12] },
      full: { weight: 45, numbers: [2] },
      drained: { weight: 50, numbers: [3] },
      abort: { weight: 3, numbers: [] },
      garbage: { weight: 3, numbers: [garbage.length] },
      lost: { weight: 3, numbers: [] },
      turn: { weight: 120, numbers: [] }
    }
  },
  run: async ({ options, steps }) => {
    const ends = new Ends(options)
    if (options["handshake"]! > 1) {
      ends.hello(0)
      ends.hello(1)
    }
    for (const [at, step] of steps.entries()) {
      await ends.take(step)
      if (step[0] === "turn") ends.check(`step ${at}, ${step[0]}`)
    }
    await turn()
    ends.check("all steps done")
    await ends.finish()
  }
}

/**
 * Real Finagle as child processes: Java programs that are told over stdin what to do (`../finagle/README.md`). A peer lives as
 * long as its scope. The end of its stdin ends it, so that it cannot outlive this process either, however that ends.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import { type ChildProcessByStdio, spawn } from "node:child_process"
import type { Readable, Writable } from "node:stream"
import { fileURLToPath } from "node:url"
import * as Events from "./Events.ts"

/** `tm22`: ThriftMux 22.7.0, the service of echo.thrift. `mux24`: Mux 24.2.0, bodies of bytes. */
export type Library = "tm22" | "mux24"

/** Where the Maven project of a library is. */
export const folder = (library: Library): string => fileURLToPath(new URL(`../finagle/${library}`, import.meta.url))

/** A peer that did not start, ended, or was told something it does not understand. */
export class PeerError extends Data.TaggedError("PeerError")<{ readonly what: string }> {
  override get message(): string {
    return this.what
  }
}

/** What a peer tells unasked. Sessions are numbered from 1. */
export interface PeerEvent {
  readonly event: string
  readonly session: number
  readonly [field: string]: unknown
}

/** Options of a program or of one call: `{ clientId: "x", header: ["a=b"] }` is `--client-id x --header a=b`. */
export type Options = Readonly<Record<string, string | number | true | ReadonlyArray<string>>>

/** A running program. */
export interface Peer {
  /** What READY said. */
  readonly ready: any
  /** One command and its answer. Several may be under way at once. */
  readonly command: (words: ReadonlyArray<string | number>, options?: Options) => Effect.Effect<any, PeerError>
  /** Every event since the start, then those to come. */
  readonly events: Stream.Stream<PeerEvent>
  /** The first event of a name that matches, whether it has happened or is to come. */
  readonly event: (name: string, matches?: (event: PeerEvent) => boolean) => Effect.Effect<PeerEvent>
}

/** Split from the program by lines, so a word with spaces or quotes in it goes as JSON. */
const quote = (word: string | number): string =>
  typeof word === "string" && !/^[^\s"]+$/.test(word) ? JSON.stringify(word) : String(word)

const flags = (options: Options): Array<string> =>
  Object.entries(options).flatMap(([name, given]) => {
    const option = `--${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`
    if (given === true) return [option]
    return (Array.isArray(given) ? given : [given]).flatMap((one) => [option, String(one)])
  })

type Process = ChildProcessByStdio<Writable, Readable, Readable>
type Answered = (answer: Effect.Effect<any, PeerError>) => void

/** What is known of a process and who waits for it. */
class Conversation {
  readonly process: Process
  readonly waiting = new Map<string, Answered>()
  readonly events: Events.Events<PeerEvent>
  ended: PeerError | undefined
  #lastId = 0
  #line = ""
  #stderr = ""

  constructor(process: Process, events: Events.Events<PeerEvent>) {
    this.process = process
    this.events = events
    process.stdout.setEncoding("utf8").on("data", (chunk: string) => this.#receive(chunk))
    process.stderr.setEncoding("utf8").on("data", (chunk: string) => {
      this.#stderr = (this.#stderr + chunk).slice(-2000)
    })
    // A program that has ended does not read: its end is what is told.
    process.stdin.on("error", () => {})
    process.on("error", (error) => this.#end(error.message))
    process.on("close", (code, signal) => this.#end(`ended with ${signal ?? code}`))
  }

  readonly answer = (id: string, send: () => void): Effect.Effect<any, PeerError> =>
    Effect.callback((resume) => {
      if (this.ended !== undefined) return resume(Effect.fail(this.ended))
      this.waiting.set(id, resume)
      send()
      return Effect.sync(() => this.waiting.delete(id))
    })

  readonly command = (words: ReadonlyArray<string | number>, options: Options = {}): Effect.Effect<any, PeerError> =>
    Effect.suspend(() => {
      const id = String(++this.#lastId)
      const line = [...words, ...flags(options)].map(quote).join(" ")
      return this.answer(id, () => this.process.stdin.write(`@${id} ${line}\n`))
    })

  #receive(chunk: string): void {
    const lines = (this.#line + chunk).split("\n")
    this.#line = lines.pop()!
    for (const line of lines) this.#heard(line)
  }

  #heard(line: string): void {
    const [, kind, name, json] = /^(READY|OK|ERROR|EVENT) (?:([\w-]+) )?(\{.*\})$/.exec(line) ?? []
    if (json === undefined) return this.#end(`said what is no line of its protocol: ${line}`)
    const fields = JSON.parse(json)
    if (kind === "EVENT") return this.events.add({ event: name, ...fields })
    const id = kind === "READY" ? "READY" : fields.id
    const answered = this.waiting.get(id)
    this.waiting.delete(id)
    answered?.(kind === "ERROR" ? Effect.fail(new PeerError({ what: fields.message })) : Effect.succeed(fields))
  }

  #end(what: string): void {
    if (this.ended !== undefined) return
    this.ended = new PeerError({ what: `Finagle ${what}\n${this.#stderr}`.trimEnd() })
    for (const answered of this.waiting.values()) answered(Effect.fail(this.ended))
    this.waiting.clear()
    this.process.stdin.end()
  }
}

/** How long a program may take to end when its stdin has. It halts at once; more is a hang. */
const endWithinMillis = 3000

const stop = (process: Process): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    if (process.pid === undefined || process.exitCode !== null || process.signalCode !== null) {
      return resume(Effect.void)
    }
    const kill = setTimeout(() => process.kill("SIGKILL"), endWithinMillis)
    process.once("exit", () => {
      clearTimeout(kill)
      resume(Effect.void)
    })
    process.stdin.end()
  })

const start = (library: Library, args: ReadonlyArray<string>): Effect.Effect<Peer, PeerError, Scope.Scope> =>
  Effect.gen(function*() {
    const events = yield* Events.make<PeerEvent>()
    // The heap is for some messages of 16 MiB at a time. With C1 alone a server listens after 1.4 s, with both compilers 2.6 (measured).
    const jvm = ["-Xmx512m", "-XX:TieredStopAtLevel=1", "-cp", "target/classes:target/lib/*", "Main"]
    const process = yield* Effect.acquireRelease(
      Effect.sync(() => spawn("java", [...jvm, ...args], { cwd: folder(library), stdio: ["pipe", "pipe", "pipe"] })),
      stop
    )
    const conversation = new Conversation(process, events)
    const ready = yield* conversation.answer("READY", () => {})
    return {
      ready,
      command: conversation.command,
      events: events.all,
      event: (name, matches = () => true) => events.first((event) => event.event === name && matches(event))
    }
  })

/** The frames of one session as the server saw them, by type; `+` marks fragments that others follow. */
export interface SessionStats {
  readonly session: number
  readonly in: Readonly<Record<string, number>>
  readonly out: Readonly<Record<string, number>>
  /** Bytes of the largest frame without size, type and tag. */
  readonly largestIn: number
  readonly largestOut: number
}

/** What a server has served. */
export interface ServerStats {
  /** By method; nacked calls count. */
  readonly calls: Readonly<Record<string, number>>
  /** The open ones. */
  readonly sessions: ReadonlyArray<SessionStats>
  /** How many there have been. */
  readonly sessionsEver: number
}

/** A Finagle server on a port of 127.0.0.1. */
export interface Server extends Peer {
  readonly port: number
  /** `127.0.0.1:port`. */
  readonly address: string
  /** Stops listening, drains every session and closes them all within so many milliseconds. */
  readonly drain: (millis: number) => Effect.Effect<void, PeerError>
  /** Listens on the same port again. */
  readonly listen: Effect.Effect<void, PeerError>
  /** Drains every open session, and listens on. */
  readonly drainSessions: (millis: number) => Effect.Effect<void, PeerError>
  /** Sends a lease to every open session; says how many. */
  readonly lease: (millis: number) => Effect.Effect<number, PeerError>
  /** Pings every open session. An answer means that the client has read all that was sent to it before. */
  readonly ping: Effect.Effect<{ readonly sessions: number; readonly answered: number }, PeerError>
  readonly stats: Effect.Effect<ServerStats, PeerError>
  /** The open session of a number. */
  readonly session: (session: number) => Effect.Effect<SessionStats, PeerError>
}

/** Starts a server. Options are those of the program: `window`, `rejectSessions`, `port`, `tls`, `forward`. */
export const server = (library: Library, options: Options = {}): Effect.Effect<Server, PeerError, Scope.Scope> =>
  Effect.map(start(library, ["server", ...flags(options)]), (peer) => ({
    ...peer,
    port: peer.ready.port,
    address: `127.0.0.1:${peer.ready.port}`,
    drain: (millis) => peer.command(["drain", millis]),
    listen: peer.command(["listen"]),
    drainSessions: (millis) => peer.command(["drain-sessions", millis]),
    lease: (millis) => Effect.map(peer.command(["lease", millis]), ({ sessions }) => sessions),
    ping: peer.command(["ping"]),
    stats: peer.command(["stats"]),
    session: (session) =>
      Effect.flatMap(peer.command(["stats"]), ({ sessions }: ServerStats) => {
        const found = sessions.find((one) => one.session === session)
        return found === undefined
          ? Effect.fail(new PeerError({ what: `session ${session} is not open` }))
          : Effect.succeed(found)
      })
  }))

/** How a call through Finagle's client ended. */
export interface CallResult {
  readonly ok: boolean
  /** The method's, when `ok`; else the fields that the failure has. */
  readonly result?: any
  readonly exception?: string
  readonly message?: string
  readonly cause?: string
  readonly flags?: ReadonlyArray<string>
  readonly declared?: string
  readonly why?: string
  readonly missing?: string
  /** Of a TApplicationException. */
  readonly type?: number
  readonly millis: number
}

/** How many calls ended how. */
export interface LoadResult {
  readonly requests: number
  readonly succeeded: number
  /** Given up by the load itself: option `discards`. */
  readonly discarded: number
  readonly failed: number
  /** Successes with another call's answer, or a damaged one: of the methods that answer their argument. */
  readonly wrong: number
  /** By class and message. */
  readonly errors: Readonly<Record<string, number>>
}

/** A Finagle client. Each combination of client id, timeout and window has connections of its own. */
export interface Client extends Peer {
  readonly call: (words: ReadonlyArray<string | number>, options?: Options) => Effect.Effect<CallResult, PeerError>
  /**
   * One call many times: options `requests`, `concurrency`, `discards` and `seed`. In a word, `{}` is the call's number and `{x:N}` less
   * than N times `x`.
   */
  readonly load: (words: ReadonlyArray<string | number>, options: Options) => Effect.Effect<LoadResult, PeerError>
  /** Closes all connections; the next call makes new ones. */
  readonly close: Effect.Effect<void, PeerError>
}

/** Starts a client of servers given as `host:port`. Options hold for every call. */
export const client = (
  library: Library,
  addresses: ReadonlyArray<string>,
  options: Options = {}
): Effect.Effect<Client, PeerError, Scope.Scope> =>
  Effect.map(start(library, ["client", addresses.join(","), ...flags(options)]), (peer) => ({
    ...peer,
    call: (words, options) => peer.command(["call", ...words], options),
    load: (words, options) => peer.command(["load", ...words], options),
    close: peer.command(["close"])
  }))

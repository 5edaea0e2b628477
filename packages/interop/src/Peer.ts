/**
 * Peers as child processes: programs that are told over stdin what to do and answer in lines (`../finagle/README.md`, "Lines"). A
 * peer lives as long as its scope. The end of its stdin ends it, so that it cannot outlive this process either, however that ends.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import { type ChildProcessByStdio, spawn } from "node:child_process"
import type { Readable, Writable } from "node:stream"
import * as Events from "./Events.ts"

/** How a program is started. */
export interface Program {
  /** What it is called when it fails. */
  readonly name: string
  readonly command: string
  readonly args: ReadonlyArray<string>
  readonly cwd: string
  /** Added to the environment. */
  readonly env?: Readonly<Record<string, string>>
}

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

/** Options as words. */
export const flags = (options: Options): Array<string> =>
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
  readonly name: string
  readonly waiting = new Map<string, Answered>()
  readonly events: Events.Events<PeerEvent>
  ended: PeerError | undefined
  #lastId = 0
  #line = ""
  #stderr = ""

  constructor(name: string, process: Process, events: Events.Events<PeerEvent>) {
    this.name = name
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
    this.ended = new PeerError({ what: `${this.name} ${what}\n${this.#stderr}`.trimEnd() })
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

/** Starts a program and waits for its READY. */
export const start = (program: Program): Effect.Effect<Peer, PeerError, Scope.Scope> =>
  Effect.gen(function*() {
    const { args, command, cwd, env, name } = program
    const events = yield* Events.make<PeerEvent>()
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(command, args, { cwd, env: { ...process.env, ...env }, stdio: ["pipe", "pipe", "pipe"] })
      ),
      stop
    )
    const conversation = new Conversation(name, child, events)
    const ready = yield* conversation.answer("READY", () => {})
    return {
      ready,
      command: conversation.command,
      events: events.all,
      event: (name, matches = () => true) => events.first((event) => event.event === name && matches(event))
    }
  })

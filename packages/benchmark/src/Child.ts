/** A process of its own for one client or one server, and the questions that it is asked. */
import { type ChildProcess, fork } from "node:child_process"
import { fileURLToPath } from "node:url"
import type { ClientName, ServerName } from "./peers.ts"

/** What a child is started to be. */
export type Part =
  | { readonly _tag: "Server"; readonly name: ServerName }
  | { readonly _tag: "Client"; readonly name: ClientName; readonly ports: ReadonlyArray<number> }

/** What a client is asked. Each question has one answer, but for `Close`: it ends. */
export type Question =
  | { readonly _tag: "Measure"; readonly inFlight: number; readonly millis: number }
  | { readonly _tag: "Profile"; readonly inFlight: number; readonly millis: number; readonly file: string }
  | { readonly _tag: "Close" }

/** What was seen in one window of time. */
export interface Sample {
  /** User and system time of the client's process for one call, in microseconds. */
  readonly microsPerCall: number
  readonly callsPerSecond: number
}

/** What a child says: first that it is ready (a server: on which ports), then its answers. */
export type Answer =
  | { readonly _tag: "Ready"; readonly ports: ReadonlyArray<number> }
  | { readonly _tag: "Sampled"; readonly sample: Sample }
  | { readonly _tag: "Done" }
  | { readonly _tag: "Failed"; readonly error: string }

/** No answer takes as long, on a slow machine either: a child that needs more hangs. */
const answerMillis = 30_000

const entry = fileURLToPath(new URL("entry.ts", import.meta.url))

/** A child that is running. */
export class Child {
  readonly #process: ChildProcess
  readonly #name: string
  #waiting: PromiseWithResolvers<Answer> | undefined
  #failure: Error | undefined

  private constructor(part: Part) {
    this.#name = `the ${part._tag.toLowerCase()} ${part.name}`
    // The `@scales-rpc/source` condition is in the flags of this process, which the child inherits.
    this.#process = fork(entry, [JSON.stringify(part)], { stdio: ["ignore", "inherit", "inherit", "ipc"] })
    this.#process.on("message", (answer: Answer) => {
      const waiting = this.#waiting
      this.#waiting = undefined
      if (answer._tag === "Failed") this.#fail(new Error(`${this.#name}: ${answer.error}`), waiting)
      else waiting?.resolve(answer)
    })
    this.#process.on("error", (error) => this.#fail(error, this.#waiting))
    this.#process.on("exit", (code, signal) => {
      this.#fail(new Error(`${this.#name} ended with ${signal ?? `code ${code}`}`), this.#waiting)
    })
  }

  /** Starts a child and waits until it is ready: a server listens on the ports given back, a client is connected. */
  static async start(part: Part): Promise<{ readonly child: Child; readonly ports: ReadonlyArray<number> }> {
    const child = new Child(part)
    const answer = await child.#next()
    return { child, ports: answer._tag === "Ready" ? answer.ports : [] }
  }

  /** Keeps `inFlight` calls under way for that long. */
  async measure(inFlight: number, millis: number): Promise<Sample> {
    const answer = await this.#ask({ _tag: "Measure", inFlight, millis })
    if (answer._tag !== "Sampled") throw new Error(`${this.#name} answered ${answer._tag} to Measure`)
    return answer.sample
  }

  /** Does the same under V8's CPU profiler, and has the profile written to a file. */
  async profile(inFlight: number, millis: number, file: string): Promise<void> {
    await this.#ask({ _tag: "Profile", inFlight, millis, file })
  }

  /** Ends the child, by force if it does not end by itself. */
  async stop(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return
    const exited = new Promise((resolve) => this.#process.once("exit", resolve))
    const killer = setTimeout(() => this.#process.kill("SIGKILL"), 2000)
    if (this.#process.connected) this.#process.send({ _tag: "Close" } satisfies Question, () => {})
    await exited
    clearTimeout(killer)
  }

  #ask(question: Question): Promise<Answer> {
    if (this.#failure === undefined) this.#process.send(question, () => {})
    return this.#next()
  }

  async #next(): Promise<Answer> {
    if (this.#failure !== undefined) throw this.#failure
    const waiting = this.#waiting = Promise.withResolvers<Answer>()
    const timer = setTimeout(() => {
      this.#fail(new Error(`${this.#name} did not answer within ${answerMillis / 1000} s`), waiting)
    }, answerMillis)
    try {
      return await waiting.promise
    } finally {
      clearTimeout(timer)
    }
  }

  #fail(error: Error, waiting: PromiseWithResolvers<Answer> | undefined): void {
    this.#failure ??= error
    this.#waiting = undefined
    waiting?.reject(this.#failure)
  }
}

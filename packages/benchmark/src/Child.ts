/**
 * A process of its own for one client or one server, and the questions that it is asked: a line of JSON to its stdin each, and a line of JSON from
 * its stdout as the answer, so that it may be written in any language.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import type { Latency } from "./Latencies.ts"
import type { NodeClientName, ServerName } from "./peers.ts"
import type { Payload } from "./workload.ts"

/** What a Node child is started to be. */
export type Part =
  | { readonly _tag: "Server"; readonly name: ServerName; readonly count: number }
  | { readonly _tag: "Client"; readonly name: NodeClientName; readonly ports: ReadonlyArray<number> }

/** A program, and how it is started. */
export interface Program {
  readonly command: string
  readonly args: ReadonlyArray<string>
  readonly cwd?: string | undefined
  /** Added to the environment of this process. */
  readonly env?: Readonly<Record<string, string>> | undefined
}

/** What a client is asked. Each question has one answer, but for `Close`: it ends. */
export type Question =
  /** A closed loop of so many calls in flight, and what a call costs. */
  | { readonly _tag: "Measure"; readonly inFlight: number; readonly payload: Payload; readonly millis: number }
  /** The same, and how long a call takes: apart, because reading clocks costs too. */
  | { readonly _tag: "Closed"; readonly inFlight: number; readonly payload: Payload; readonly millis: number }
  /** An open loop of so many calls a second, and how long a call takes. */
  | { readonly _tag: "Open"; readonly rate: number; readonly payload: Payload; readonly millis: number }
  /** A closed loop, and what a call allocates. */
  | { readonly _tag: "Memory"; readonly inFlight: number; readonly payload: Payload; readonly millis: number }
  /** Of Node clients only: a closed loop under V8's profiler. */
  | { readonly _tag: "Profile"; readonly inFlight: number; readonly millis: number; readonly file: string }
  | { readonly _tag: "Close" }

/** What was seen in one window of time. */
export interface Sample {
  /** User time of the client's process for one call, in microseconds. */
  readonly userMicros: number
  /** System time of it. */
  readonly systemMicros: number
  readonly callsPerSecond: number
}

/** Both. */
export const cpuOf = (sample: Sample): number => sample.userMicros + sample.systemMicros

/** How long calls took, and how many there were. */
export interface Timed extends Latency {
  readonly callsPerSecond: number
}

/** What memory a client takes. */
export interface Memory {
  /** Allocated a call; `null` where the language does not count it. */
  readonly allocatedBytes: number | null
  /** Of the process; `null` where the system does not say. */
  readonly residentBytes: number | null
}

/** What a child says: first that it is ready (a server: on which ports), then its answers. */
export type Answer =
  | { readonly _tag: "Ready"; readonly ports: ReadonlyArray<number> }
  | { readonly _tag: "Sampled"; readonly sample: Sample }
  | { readonly _tag: "Timed"; readonly timed: Timed }
  | { readonly _tag: "Remembered"; readonly memory: Memory }
  | { readonly _tag: "Done" }
  | { readonly _tag: "Failed"; readonly error: string }

/** No answer takes as long, on a slow machine either: a child that needs more hangs. */
const answerMillis = 60_000

const entry = fileURLToPath(new URL("entry.ts", import.meta.url))

/** A part of the benchmark in Node. The `@scales-rpc/source` condition is in the flags of this process, which the child has too. */
export const nodeProgram = (part: Part): Program => ({
  command: process.execPath,
  args: [...process.execArgv, entry, JSON.stringify(part)]
})

/** A child that is running. */
export class Child {
  readonly #process: ChildProcess
  readonly #name: string
  #waiting: PromiseWithResolvers<Answer> | undefined
  #failure: Error | undefined

  private constructor(name: string, { args, command, cwd, env }: Program) {
    this.#name = name
    this.#process = spawn(command, args, {
      cwd,
      env: { ...process.env, ...env },
      stdio: ["pipe", "pipe", "inherit"]
    })
    createInterface({ input: this.#process.stdout! }).on("line", (line) => this.#hear(line))
    // A child that is gone is told of by its exit.
    this.#process.stdin!.on("error", () => {})
    this.#process.on("error", (error) => this.#fail(error, this.#waiting))
    this.#process.on("exit", (code, signal) => {
      this.#fail(new Error(`${this.#name} ended with ${signal ?? `code ${code}`}`), this.#waiting)
    })
  }

  /** Starts a child and waits until it is ready: a server listens on the ports given back, a client is connected. */
  static async start(
    name: string,
    program: Program
  ): Promise<{ readonly child: Child; readonly ports: ReadonlyArray<number> }> {
    const child = new Child(name, program)
    const answer = await child.#next()
    return { child, ports: answer._tag === "Ready" ? answer.ports : [] }
  }

  /** Keeps `inFlight` calls under way for that long; what a call costs. */
  async measure(inFlight: number, payload: Payload, millis: number): Promise<Sample> {
    const answer = await this.#ask({ _tag: "Measure", inFlight, payload, millis })
    if (answer._tag !== "Sampled") throw this.#odd(answer)
    return answer.sample
  }

  /** Keeps `inFlight` calls under way for that long; how long a call takes. */
  async closed(inFlight: number, payload: Payload, millis: number): Promise<Timed> {
    return this.#timed({ _tag: "Closed", inFlight, payload, millis })
  }

  /** Begins `rate` calls a second for that long; how long a call takes from when it should have begun. */
  async open(rate: number, payload: Payload, millis: number): Promise<Timed> {
    return this.#timed({ _tag: "Open", rate, payload, millis })
  }

  /** Keeps `inFlight` calls under way for that long; what memory that takes. */
  async memory(inFlight: number, payload: Payload, millis: number): Promise<Memory> {
    const answer = await this.#ask({ _tag: "Memory", inFlight, payload, millis })
    if (answer._tag !== "Remembered") throw this.#odd(answer)
    return answer.memory
  }

  /** Keeps `inFlight` calls under way for that long under V8's CPU profiler, and has the profile written to a file. */
  async profile(inFlight: number, millis: number, file: string): Promise<void> {
    await this.#ask({ _tag: "Profile", inFlight, millis, file })
  }

  /** Ends the child, by force if it does not end by itself. */
  async stop(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null || this.#process.pid === undefined) return
    const exited = new Promise((resolve) => this.#process.once("exit", resolve))
    const killer = setTimeout(() => this.#process.kill("SIGKILL"), 2000)
    this.#process.stdin!.end(`${JSON.stringify({ _tag: "Close" } satisfies Question)}\n`)
    await exited
    clearTimeout(killer)
  }

  async #timed(question: Question): Promise<Timed> {
    const answer = await this.#ask(question)
    if (answer._tag !== "Timed") throw this.#odd(answer)
    return answer.timed
  }

  #odd(answer: Answer): Error {
    return new Error(`${this.#name} answered ${answer._tag} to another question`)
  }

  #hear(line: string): void {
    // What a library logs is no answer, and is for who looks on.
    if (!/^\{"_tag": ?"/.test(line)) return void process.stderr.write(`${this.#name}: ${line}\n`)
    const waiting = this.#waiting
    const answer = JSON.parse(line) as Answer
    this.#waiting = undefined
    if (answer._tag === "Failed") this.#fail(new Error(`${this.#name}: ${answer.error}`), waiting)
    else waiting?.resolve(answer)
  }

  #ask(question: Question): Promise<Answer> {
    if (this.#failure === undefined) this.#process.stdin!.write(`${JSON.stringify(question)}\n`)
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

/** A measure in a process of its own, so that neither the compiler's decisions nor the heap are those of another. */
import { type ChildProcess, fork } from "node:child_process"
import { fileURLToPath } from "node:url"

/** How much is measured: `quick` what the targets name, in seconds; `full` as long as it takes. */
export type Extent = "quick" | "standard" | "full"

type Answer = { readonly _tag: "Done"; readonly value: unknown } | { readonly _tag: "Failed"; readonly error: string }

/** A module that runs in a process of its own, and does what it is asked, one thing at a time. */
export class Isolated<Task, Result> {
  readonly #process: ChildProcess
  #waiting: PromiseWithResolvers<Result> | undefined
  #failure: Error | undefined

  /**
   * Starts the module `url`, from the sources, with these flags of Node's. Those of this process are not inherited: a test's are not for it.
   */
  constructor(url: string, flags: ReadonlyArray<string> = []) {
    this.#process = fork(fileURLToPath(url), [], {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
      execArgv: ["--conditions=@scales-rpc/source", ...flags]
    })
    const failed = (error: Error) => {
      this.#failure ??= error
      this.#waiting?.reject(error)
    }
    this.#process.on("message", (answer: Answer) => {
      if (answer._tag === "Failed") return failed(new Error(answer.error))
      this.#waiting?.resolve(answer.value as Result)
    })
    this.#process.on("error", failed)
    this.#process.on("exit", (code, signal) => failed(new Error(`${url} ended with ${signal ?? `code ${code}`}`)))
  }

  /** Rejects when the child throws or ends. */
  ask(task: Task): Promise<Result> {
    this.#waiting = Promise.withResolvers<Result>()
    if (this.#failure === undefined) this.#process.send(task as object)
    else this.#waiting.reject(this.#failure)
    return this.#waiting.promise
  }

  /** Ends the process, and waits until it has. */
  async stop(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return
    const exited = new Promise((resolve) => this.#process.once("exit", resolve))
    this.#process.kill("SIGKILL")
    await exited
  }
}

/** Asks a module in a process of its own once. */
export const isolated = async <A>(url: string, task: unknown, flags?: ReadonlyArray<string>): Promise<A> => {
  const child = new Isolated<unknown, A>(url, flags)
  try {
    return await child.ask(task)
  } finally {
    await child.stop()
  }
}

/** What a module that is run so does at its end: when it is the program of a process, it does what it is asked until that ends. */
export const answering = <Task>(meta: ImportMeta, measure: (task: Task) => Promise<unknown>): void => {
  if (!meta.main || process.send === undefined) return
  const say = (answer: Answer) => void process.send!(answer)
  process.on("message", (task: Task) => {
    measure(task).then(
      (value) => say({ _tag: "Done", value }),
      (error: unknown) =>
        say({ _tag: "Failed", error: error instanceof Error ? error.stack ?? error.message : String(error) })
    )
  })
  // Whoever asked is gone.
  process.on("disconnect", () => process.exit())
}

/** Collects garbage until the heap is as small as it gets; needs `--expose-gc`. Gives what is left, in bytes. */
export const heapAfterGc = async (): Promise<number> => {
  let least = Infinity
  for (let round = 0; round < 8; round++) {
    globalThis.gc!()
    // Finalizers, and what waits for a turn of its own, are heard between two collections.
    await new Promise((resolve) => setTimeout(resolve, 10))
    const { heapUsed } = process.memoryUsage()
    if (round > 2 && heapUsed > least * 0.999) return Math.min(least, heapUsed)
    least = Math.min(least, heapUsed)
  }
  return least
}

/** What a client is to the benchmark, and what is counted of the calls that go through it. */
import type { Latencies } from "./Latencies.ts"
import { type Reply, type Work, workOf } from "./workload.ts"

/** How one call ended. */
export type Ended = (error: unknown, reply: Reply | undefined) => void

/** A client of one kind, connected to its server. */
export interface Client {
  /**
   * A closed loop: keeps `inFlight` calls under way, each loop making one call after the other, until `load` is stopped and every loop has had
   * its last reply. Rejects when a call fails or a reply is wrong.
   */
  readonly drive: (inFlight: number, load: Load) => Promise<void>
  /** Begins one call, whatever others are under way; `ended` hears of it once. */
  readonly begin: (work: Work, ended: Ended) => void
  readonly close: () => Promise<void>
}

/** Shared by the loops of one drive: what they send, whether they go on, and what came back. */
export class Load {
  readonly work: Work
  running = true
  replies = 0
  readonly #latencies: Latencies | undefined

  /** With `latencies`, each call is timed, which costs the reading of a clock twice. */
  constructor(work: Work = workOf(86), latencies?: Latencies) {
    this.work = work
    this.#latencies = latencies
  }

  /** A call begins; what it gives is handed to `end`. */
  readonly begin = (): number => this.#latencies === undefined ? 0 : performance.now()

  /** Takes the reply to the call that began then; throws when it is wrong. */
  readonly end = (began: number, reply: Reply): void => {
    const wrong = this.work.wrongIn(reply)
    if (wrong !== undefined) throw new Error(`wrong reply: ${wrong}`)
    this.replies++
    this.#latencies?.add(performance.now() - began)
  }

  readonly stop = (): void => {
    this.running = false
  }
}

/** One checked call. */
export const callOnce = async (client: Client, work: Work = workOf(86)): Promise<void> => {
  const load = new Load(work)
  load.stop()
  await client.drive(1, load)
  if (load.replies !== 1) throw new Error(`one call, ${load.replies} replies`)
}

/** A loop of calls that are promises. */
const loopPromises = async (load: Load, call: (work: Work) => Promise<Reply>): Promise<void> => {
  do {
    const began = load.begin()
    load.end(began, await call(load.work))
  } while (load.running)
}

/** `drive` and `begin` of a client whose calls are promises. */
export const promising = (call: (work: Work) => Promise<Reply>): Pick<Client, "drive" | "begin"> => ({
  drive: async (inFlight, load) => {
    await Promise.all(Array.from({ length: inFlight }, () => loopPromises(load, call)))
  },
  begin: (work, ended) => {
    call(work).then((reply) => ended(undefined, reply), (error: unknown) => ended(error, undefined))
  }
})

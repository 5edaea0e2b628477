/** What a client is to the benchmark, and the closed loop that is run through it. */
import { type Message, wrongIn } from "./workload.ts"

/** A client of one kind, connected to its server. */
export interface Client {
  /**
   * Keeps `inFlight` calls under way, each loop making one call after the other, until `load` is stopped and every loop has had its
   * last reply. Rejects when a call fails or a reply is wrong.
   */
  readonly drive: (inFlight: number, load: Load) => Promise<void>
  readonly close: () => Promise<void>
}

/** Shared by the loops of one drive: whether they go on, and how many replies have come. */
export class Load {
  running = true
  replies = 0

  /** Takes a reply; throws when it is wrong. */
  readonly accept = (reply: Message | string): void => {
    const wrong = wrongIn(reply)
    if (wrong !== undefined) throw new Error(`wrong reply: ${wrong}`)
    this.replies++
  }

  readonly stop = (): void => {
    this.running = false
  }
}

/** One checked call. */
export const callOnce = async (client: Client): Promise<void> => {
  const load = new Load()
  load.stop()
  await client.drive(1, load)
  if (load.replies !== 1) throw new Error(`one call, ${load.replies} replies`)
}

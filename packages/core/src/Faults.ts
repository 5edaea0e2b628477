/** The last things that went wrong, for whoever looks at a client or a server: a few, and never one a call. */
import { textWithoutSecrets } from "./internal/secrets.ts"
import { textOf } from "./internal/textOf.ts"

/** Something that went wrong at an endpoint, or with a server set. */
export interface Fault {
  /** Milliseconds since 1970. */
  readonly at: number
  /** Its key, `host:port`; `undefined`: not of one endpoint. */
  readonly endpoint: string | undefined
  /** What happened, in a few words: `down`, `marked dead`, ... */
  readonly what: string
  /** Why, as text without secrets. */
  readonly cause: string | undefined
}

/** How many are kept. */
const kept = 50

/** How long the text of a cause may get: some hold what a peer has sent. */
const longest = 1000

/** The text of a cause: without secrets, and of 1000 characters at most. */
export const shown = (cause: unknown): string => {
  const text = textWithoutSecrets(textOf(cause))
  return text.length > longest ? `${text.slice(0, longest)}...` : text
}

/** The newest faults. */
export class Faults {
  readonly #now: () => number
  /** A ring: the oldest is at `#next` when it is full. */
  readonly #all: Array<Fault> = []
  #next = 0

  /** `now` in milliseconds since 1970. */
  constructor(now: () => number) {
    this.#now = now
  }

  /** Notes one; the oldest goes when there are 50. */
  note(fault: { readonly endpoint?: string | undefined; readonly what: string; readonly cause?: unknown }): void {
    const { cause, endpoint, what } = fault
    const at = this.#now()
    this.#all[this.#next] = { at, endpoint, what, cause: cause === undefined ? undefined : shown(cause) }
    this.#next = (this.#next + 1) % kept
  }

  /** The newest first. */
  get list(): ReadonlyArray<Fault> {
    return [...this.#all.slice(0, this.#next).toReversed(), ...this.#all.slice(this.#next).toReversed()]
  }
}

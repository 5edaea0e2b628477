/** Who watches which node: what the server or the C client tells once a node goes to everybody who asked. */
import type { Watcher, WatchEvent } from "../Session.ts"

/** Which of the server's tables a watch is in: `data` for get and exists, `child` for children. */
export type WatchKind = "data" | "child"

/** What a watch was set on: a node that was there, or, by exists, none. */
export interface Watched {
  readonly kind: WatchKind
  readonly path: string
  readonly missing: boolean
}

interface Entry extends Watched {
  readonly watchers: ReadonlyArray<Watcher>
}

/** The watches of one session that can still fire. */
export class Watches {
  readonly #entries = new Map<string, Entry>()
  readonly #defect: (defect: unknown) => void

  /** `defect` hears of what watchers throw. */
  constructor(defect: (defect: unknown) => void) {
    this.#defect = defect
  }

  /** How many nodes are watched; one whose data and children are watched counts twice, as it does at the server. */
  get size(): number {
    return this.#entries.size
  }

  /** All, one for each node and kind. */
  all(): ReadonlyArray<Watched> {
    return [...this.#entries.values()]
  }

  /** Adds to those who hear of a node once. */
  add(kind: WatchKind, path: string, missing: boolean, watcher: Watcher): void {
    const key = `${kind} ${path}`
    const entry = this.#entries.get(key)
    this.#entries.set(key, { kind, path, missing, watchers: [...entry?.watchers ?? [], watcher] })
  }

  /** Something happened to a node: whoever watches for it hears of it, and watches no more. */
  fire(event: WatchEvent, path: string): void {
    const kinds: ReadonlyArray<WatchKind> = event === "ChildrenChanged"
      ? ["child"]
      : event === "Deleted"
      ? ["data", "child"]
      : ["data"]
    const fired = kinds.flatMap((kind) => this.#take(`${kind} ${path}`))
    this.#tell(fired, event)
  }

  /** None of them can fire any more. */
  lose(): void {
    const fired = [...this.#entries.keys()].flatMap((key) => this.#take(key))
    this.#tell(fired, "Lost")
  }

  #tell(watchers: ReadonlyArray<Watcher>, event: WatchEvent): void {
    for (const watcher of watchers) {
      try {
        watcher(event)
      } catch (thrown) {
        this.#defect(thrown)
      }
    }
  }

  #take(key: string): ReadonlyArray<Watcher> {
    const entry = this.#entries.get(key)
    this.#entries.delete(key)
    return entry?.watchers ?? []
  }
}

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
  missing: boolean
  readonly watchers: Set<Watcher>
}

const keyOf = (kind: WatchKind, path: string): string => `${kind} ${path}`

/** The watches of one session that can still fire. */
export class Watches {
  readonly #entries = new Map<string, Entry>()
  readonly #defect: (defect: unknown) => void
  /** How many of them have ended so far, by what they ended with. */
  readonly events: Record<WatchEvent, number> = { Created: 0, Deleted: 0, DataChanged: 0, ChildrenChanged: 0, Lost: 0 }

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

  /** Adds to those who hear of a node once; one who is among them already still hears once. */
  add(kind: WatchKind, path: string, missing: boolean, watcher: Watcher): void {
    const key = keyOf(kind, path)
    const entry = this.#entries.get(key)
    if (entry === undefined) this.#entries.set(key, { kind, path, missing, watchers: new Set([watcher]) })
    else {
      entry.missing = missing
      entry.watchers.add(watcher)
    }
  }

  /** Takes one off: it hears of the node no more. */
  remove(path: string, watcher: Watcher): void {
    for (const kind of ["data", "child"] as const) {
      const key = keyOf(kind, path)
      const watchers = this.#entries.get(key)?.watchers
      if (watchers?.delete(watcher) && watchers.size === 0) this.#entries.delete(key)
    }
  }

  /** Something happened to a node: whoever watches for it hears of it, and watches no more. */
  fire(event: WatchEvent, path: string): void {
    const kinds: ReadonlyArray<WatchKind> = event === "ChildrenChanged"
      ? ["child"]
      : event === "Deleted"
      ? ["data", "child"]
      : ["data"]
    this.#tell(kinds.map((kind) => keyOf(kind, path)), event)
  }

  /** None of them can fire any more. */
  lose(): void {
    this.#tell([...this.#entries.keys()], "Lost")
  }

  #tell(keys: ReadonlyArray<string>, event: WatchEvent): void {
    const fired = keys.flatMap((key) => this.#entries.get(key) ?? [])
    // Before the first is told: whoever watches again then waits for what happens next.
    for (const key of keys) this.#entries.delete(key)
    this.events[event] += fired.length
    for (const { watchers } of fired) {
      for (const watcher of watchers) {
        try {
          watcher(event)
        } catch (thrown) {
          this.#defect(thrown)
        }
      }
    }
  }
}

/** The system's word that a file has changed, been replaced, removed or made: sooner than looking at intervals tells, and less sure. */
import * as Effect from "effect/Effect"
import * as NodeFs from "node:fs"
import * as Fs from "node:fs/promises"
import * as Path from "node:path"

/** Tells of changes in the directory of a file as the system does, for as long as there is one and the system can. */
export class DirectoryWatch {
  readonly #directory: string
  readonly #name: string
  #watcher: NodeFs.FSWatcher | undefined
  #watched: string | undefined
  #closed = false
  #news = false
  #wake: (() => void) | undefined

  constructor(path: string) {
    this.#directory = Path.dirname(path)
    this.#name = Path.basename(path)
  }

  /** Watches the directory that is there now. */
  async follow(): Promise<void> {
    const found = await Fs.stat(this.#directory, { bigint: true }).then(
      ({ birthtimeNs, dev, ino }) => `${dev} ${ino} ${birthtimeNs}`,
      () => undefined
    )
    if (this.#closed || found === this.#watched) return
    this.#drop()
    if (found === undefined) return
    try {
      this.#watcher = NodeFs.watch(this.#directory, (_event, name) => {
        if (name === null || name === this.#name) this.#tell()
      })
      this.#watcher.on("error", () => this.#drop())
      this.#watched = found
    } catch {
      // The system has no watch left, or it is no directory: looking at intervals is left.
    }
  }

  /** Completes with the next news, or at once when there were some since the last. */
  readonly next: Effect.Effect<void> = Effect.callback((resume) => {
    const wake = () => {
      this.#wake = undefined
      this.#news = false
      resume(Effect.void)
    }
    if (this.#news) return wake()
    this.#wake = wake
    return Effect.sync(() => {
      this.#wake = undefined
    })
  })

  /** Nothing is watched from now on. */
  close(): void {
    this.#closed = true
    this.#drop()
  }

  #tell(): void {
    this.#news = true
    this.#wake?.()
  }

  #drop(): void {
    this.#watcher?.close()
    this.#watcher = undefined
    this.#watched = undefined
  }
}

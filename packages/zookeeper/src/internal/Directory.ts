/**
 * Follows a node's children and their data: what they are now, and again after each change, whatever happens to the session.
 *
 * The children are watched, and so is the data of each that is wanted: a change costs one read of what changed. What fails is tried again by
 * itself; while the session is not connected nothing is read, and what was read stands. In a new session everything is read
 * again before anything is said.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import type { ZooKeeperError } from "../errors.ts"
import type { Session, Watcher } from "../Session.ts"
import { type Backoff, nextDelay } from "./backoff.ts"

/**
 * What is known of a directory. `Missing`: there is no such node. `Found`: its children that are wanted, each with what its data was read as;
 * one whose data could never be read is not among them. `Unreadable`: nothing could be found out, for `cause`.
 */
export type Snapshot<A> =
  | { readonly _tag: "Missing" }
  | { readonly _tag: "Found"; readonly nodes: ReadonlyMap<string, A> }
  | { readonly _tag: "Unreadable"; readonly cause: unknown }

/** What is to be followed, and who is told. */
export interface Follow<A> {
  readonly session: Session
  readonly path: string
  /** Whether the data of a child matters, by its name. */
  readonly isWanted: (name: string) => boolean
  /** Whether nothing is told without a child, by its name, before its data was asked for twice: what others say depends on it. */
  readonly isAwaited: (name: string) => boolean
  /** Reads the data of a child. `before`: what was read the last time. */
  readonly decode: (name: string, data: Uint8Array, before: A | undefined) => A
  /** How many are read at once. */
  readonly reads: number
  /** Is called when something cannot be read that could be, with its path: at first, and when it is for another reason. */
  readonly unreadable: (path: string, error: ZooKeeperError) => void
  /** Is called with everything that is known, once a round of reads: what changed together is told together. */
  readonly publish: (snapshot: Snapshot<A>) => void
}

/** What may pass by itself, such as a lost connection. Finagle's bounds are 10 ms and 10 s. */
const transient: Backoff = { first: 100, max: 10_000 }
/** What somebody has to change, such as a right to read. */
const permanent: Backoff = { first: 10_000, max: 300_000 }
/** How long the first answer may take until whoever waits for it is told why there is none, in milliseconds. */
const patience = 10_000

const isPermanent = ({ _tag }: ZooKeeperError): boolean =>
  _tag === "NoAuth" || _tag === "AuthFailed" || _tag === "InvalidAcl" || _tag === "BadArguments"

/** Something that is read, and then watched. */
class Watched {
  /** The generation of the session in which it was read and is watched; -1: none. */
  readIn = -1
  /** Whether it has changed since. */
  changed = false
  /** When it may be tried again after a failure, in milliseconds of the monotonic clock. */
  retryAt = -Infinity
  delay = 0
  /** How often it could not be read since. */
  failures = 0
  /** Why it could not be read the last time. */
  fault: ZooKeeperError | undefined
  /** One for all its reads, so that however often it is read it is one watcher. */
  readonly watcher: Watcher

  constructor(watcher: Watcher) {
    this.watcher = watcher
  }

  isOutdated(generation: number): boolean {
    return this.changed || this.readIn !== generation
  }

  forgive(): void {
    this.retryAt = -Infinity
    this.delay = 0
    this.failures = 0
  }
}

/** A child, and what its data was read as. */
class Child<A> extends Watched {
  readonly name: string
  content: { readonly value: A } | undefined
  /** Whether it was deleted since it was read. */
  deleted = false

  constructor(name: string, watcher: Watcher) {
    super(watcher)
    this.name = name
  }
}

/** Follows a directory until the session is closed, and leaves no watcher behind when it is interrupted. */
export const follow = <A>(
  { decode, isAwaited, isWanted, path, publish, reads, session, unreadable }: Follow<A>
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const random = yield* Random.Random
    const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
    const wake = Latch.makeUnsafe(false)
    const children = new Map<string, Child<A>>()
    let generation = 0
    /** `undefined`: it is not known what the directory is now. */
    let found: "missing" | "there" | undefined
    /** Whether anything was ever told, and whether it was more than that nothing is known. */
    let told: "nothing" | "unreadable" | "found" = "nothing"
    const began = now()
    /** How often the session was connected. */
    let connections = 0

    const list = new Watched((event) => {
      if (event === "Lost") return
      list.changed = true
      wake.openUnsafe()
    })

    const childNamed = (name: string): Child<A> => {
      const child: Child<A> = new Child(name, (event) => {
        if (event === "Lost") return
        // The watch of the directory tells of it too, and there is nothing to read.
        if (event === "Deleted") child.deleted = true
        else {
          child.changed = true
          wake.openUnsafe()
        }
      })
      return child
    }

    const pathOf = (child: Child<A>): string => `${path}/${child.name}`

    const leave = (child: Child<A>) => {
      children.delete(child.name)
      session.unwatch(pathOf(child), child.watcher)
    }

    const isDue = (item: Watched): boolean => item.isOutdated(session.status().generation) && item.retryAt <= now()

    /** `during`: the connection that it was read over. What was lost with that is read again as soon as there is another. */
    const failed = (item: Watched, at: string, error: ZooKeeperError, during: number): Effect.Effect<void> =>
      Effect.sync(() => {
        if (during !== connections || session.status().state !== "Connected") return
        const isFirst = item.fault?._tag !== error._tag
        item.fault = error
        item.failures++
        item.delay = nextDelay(item.delay, isPermanent(error) ? permanent : transient, random.nextDoubleUnsafe())
        item.retryAt = now() + item.delay
        if (isFirst) unreadable(at, error)
      })

    /** Reads an item if it is to be read and can be; what is read while the session changes is read again. */
    const read = <B>(
      item: Watched,
      at: string,
      operation: Effect.Effect<B, ZooKeeperError>,
      got: (answer: B) => Effect.Effect<void>,
      gone: () => Effect.Effect<void, ZooKeeperError>
    ): Effect.Effect<void> =>
      Effect.suspend(() => {
        const status = session.status()
        const during = connections
        if (status.state !== "Connected" || !isDue(item)) return Effect.void
        // A watch can fire before what it was set with gets here.
        item.changed = false
        item.readIn = -1
        return operation.pipe(
          Effect.flatMap(got),
          Effect.catchTag("NoNode", gone),
          Effect.map(() => {
            item.readIn = status.generation
            item.fault = undefined
            item.forgive()
          }),
          // With a connection its requests end, and only then is it said that it has: whoever was resumed first looks again.
          Effect.catch((error) => Effect.andThen(Effect.yieldNow, failed(item, at, error, during)))
        )
      })

    const readList = read(
      list,
      path,
      session.children(path, list.watcher),
      (answer) =>
        Effect.sync(() => {
          found = "there"
          const names = new Set(answer.children.filter(isWanted))
          for (const [name, child] of children) if (!names.has(name)) leave(child)
          // One that was deleted and is there is another, of the same name.
          for (const name of names) if (children.get(name)?.deleted !== false) children.set(name, childNamed(name))
        }),
      () =>
        Effect.map(session.exists(path, list.watcher), (stat) => {
          if (stat === undefined) {
            found = "missing"
            for (const child of children.values()) leave(child)
          } else {
            // Made since it was asked for: its children are to be read.
            list.changed = true
          }
        })
    )

    const readChild = (child: Child<A>): Effect.Effect<void> =>
      read(
        child,
        pathOf(child),
        session.get(pathOf(child), child.watcher),
        ({ data }) =>
          Effect.sync(() => {
            child.content = { value: decode(child.name, data, child.content?.value) }
          }),
        // It has left since the directory was read, of which its watch will tell. If it comes back by then, it is a new one.
        () => Effect.sync(() => leave(child))
      )

    const tell = (snapshot: Snapshot<A>) => {
      if (snapshot._tag !== "Unreadable") told = "found"
      else if (told === "nothing") told = "unreadable"
      publish(snapshot)
    }

    /** It could not be read once, and may be soon. What somebody has to change is not waited for. */
    const isWaitedFor = ({ content, failures, fault, name }: Child<A>): boolean =>
      content === undefined && failures === 1 && fault !== undefined && !isPermanent(fault) && isAwaited(name)

    /** Tells what is known, if it is all of one session. */
    const tellAll = () => {
      if (list.readIn !== generation) {
        if (list.fault !== undefined && isPermanent(list.fault)) tell({ _tag: "Unreadable", cause: list.fault })
        return
      }
      if (found === undefined) return
      if (found === "missing") return tell({ _tag: "Missing" })
      const nodes = new Map<string, A>()
      let fault: unknown
      for (const child of children.values()) {
        // It is to be read yet, and at once.
        if (child.readIn !== generation && child.retryAt <= now()) return
        if (isWaitedFor(child)) return
        if (child.content !== undefined) nodes.set(child.name, child.content.value)
        else fault ??= child.fault
      }
      // Once some were found, those that cannot be read are as good as not there; until then, why is the best there is to tell.
      if (nodes.size === 0 && fault !== undefined && told !== "found") tell({ _tag: "Unreadable", cause: fault })
      else tell({ _tag: "Found", nodes })
    }

    /** Nothing has been found out in all that time: whoever waits is told why. */
    const tellNothing = () => {
      const { cause, state } = session.status()
      if (told !== "nothing" || (state !== "AuthFailed" && now() < began + patience)) return
      if (state === "Connected" && list.fault === undefined) return
      const why = state === "Connected" ? list.fault : cause ?? `not connected to ${session.connect}`
      tell({ _tag: "Unreadable", cause: why })
    }

    /** When something is to be done though nothing happens. */
    const nextAt = (): number => {
      const until = began + patience
      let at = told === "nothing" && now() < until ? until : Infinity
      const status = session.status()
      if (status.state !== "Connected") return at
      // Children are not read before it is known which there are.
      for (const item of list.readIn === status.generation ? [list, ...children.values()] : [list]) {
        if (item.isOutdated(status.generation)) at = Math.min(at, item.retryAt)
      }
      return at
    }

    yield* Effect.acquireRelease(
      Effect.sync(() =>
        session.subscribe(({ state }) => {
          if (state === "Connected") connections++
          wake.openUnsafe()
        })
      ),
      (off) => Effect.sync(off)
    )
    const run = Effect.gen(function*() {
      while (true) {
        wake.closeUnsafe()
        const status = session.status()
        if (status.state === "Closed") return
        if (status.state === "Connected") {
          if (status.generation !== generation) {
            generation = status.generation
            for (const item of [list, ...children.values()]) item.forgive()
          }
          yield* readList
          if (list.readIn === generation) {
            yield* Effect.forEach([...children.values()].filter(isDue), readChild, {
              concurrency: reads,
              discard: true
            })
          }
          tellAll()
        }
        tellNothing()
        // Up to the next whole millisecond: what clocks sleep for.
        const wait = Math.ceil(nextAt() - now())
        if (wait > 0) yield* wait === Infinity ? wake.await : Effect.timeoutOption(wake.await, wait)
        // What the server tells together, such as that a child was deleted and that the children changed, is heard one by one.
        yield* Effect.yieldNow
      }
    })
    // The session is others' too, and lives longer. When `run` has ended, no read is under way that could set another watch.
    yield* Effect.ensuring(
      run,
      Effect.sync(() => {
        session.unwatch(path, list.watcher)
        for (const child of children.values()) leave(child)
      })
    )
  })

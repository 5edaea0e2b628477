/** What the cases of sessions are written with. */
import { Failure } from "@scales-rpc/core"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { inspect, isDeepStrictEqual } from "node:util"
import type { ZooKeeperError } from "../../errors.ts"
import type { Session, Watcher, WatchEvent } from "../../Session.ts"

/** A session is not what the case says. */
export class ConformanceFailure extends Failure("ConformanceFailure")<{
  /** The name of the case. */
  readonly case: string
  /** What was looked at. */
  readonly what: string
  /** What it should have been, as text. */
  readonly expected: string
  /** What it was, as text. */
  readonly seen: string
}> {
  override get message(): string {
    return `${this.case}: ${this.what}: expected ${this.expected}; saw ${this.seen}`
  }
}

/** What a case is given. */
export interface Setting {
  /** Another session each time. */
  readonly make: Effect.Effect<Session, unknown, Scope.Scope>
  /** A path of the case's own. There is no such node. */
  readonly root: string
}

/** One thing that a session is held to. */
export interface Case {
  readonly name: string
  readonly run: (setting: Setting) => Effect.Effect<void, unknown, Scope.Scope>
}

/** Two sessions, and a node below which a case does what it likes. */
export interface Pair {
  readonly one: Session
  readonly two: Session
  readonly root: string
}

/** Fails unless both are the same. */
export const same = (what: string, seen: unknown, expected: unknown): Effect.Effect<void, ConformanceFailure> =>
  isDeepStrictEqual(seen, expected)
    ? Effect.void
    : Effect.fail(new ConformanceFailure({ case: "", what, expected: inspect(expected), seen: inspect(seen) }))

/** Fails unless the operation fails so. */
export const refused = <A>(
  what: string,
  operation: Effect.Effect<A, ZooKeeperError>,
  tag: ZooKeeperError["_tag"]
): Effect.Effect<void, unknown> =>
  Effect.matchEffect(operation, {
    onFailure: (failure) => same(what, failure._tag, tag),
    onSuccess: (value) => same(what, value, tag)
  })

/** Deletes a node and all below it. */
export const clear = (session: Session, path: string): Effect.Effect<void, ZooKeeperError> =>
  Effect.flatMap(session.children(path), ({ children }) =>
    Effect.andThen(
      Effect.forEach(children, (child) => clear(session, `${path}/${child}`), { discard: true }),
      session.delete(path)
    ))

/** A case of two sessions. */
export const pair = (name: string, run: (pair: Pair) => Effect.Effect<void, unknown, Scope.Scope>): Case => ({
  name,
  run: ({ make, root }) =>
    Effect.gen(function*() {
      const one = yield* make
      const two = yield* make
      yield* two.create(root, new Uint8Array())
      yield* Effect.ensuring(run({ one, two, root }), Effect.ignore(clear(two, root)))
    })
})

/** No bytes. */
export const nothing = new Uint8Array()

/** The bytes of a text. */
export const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)

/** The text of some bytes. */
export const text = (data: Uint8Array): string => new TextDecoder().decode(data)

/** A watcher that keeps what it hears, under a name. */
export const ear = (heard: Array<string>) => (name: string): Watcher => (event: WatchEvent) => {
  heard.push(`${name} ${event}`)
}

/** Waits until a session is as it should be. */
export const until = (session: Session, is: () => boolean): Effect.Effect<void> =>
  Effect.callback((resume) => {
    if (is()) return resume(Effect.void)
    const off = session.subscribe(() => {
      if (!is()) return
      off()
      resume(Effect.void)
    })
    return Effect.sync(off)
  })

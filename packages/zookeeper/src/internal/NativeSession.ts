/** A session over the native client: its operations, sent over the handle in use, and its watches. */
import type { OptionInForce } from "@scales-rpc/core"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { CreateMode, Session, Watcher } from "../Session.ts"
import { isAcl, isPath } from "./arguments.ts"
import { codeOf } from "./codes.ts"
import { Handles, type NativeSessionOptions } from "./Handles.ts"
import type { NativeClient } from "./NativeClient.ts"
import { readAcl } from "./readAcl.ts"
import { type Answer, Requests } from "./Requests.ts"
import * as Observed from "./sessionObserved.ts"
import { States } from "./States.ts"
import { Watches, type WatchKind } from "./Watches.ts"

class NativeSession implements Session {
  readonly connect: string
  readonly #connectTimeoutMillis: number
  readonly #sessionTimeoutMillis: number
  /** Runs what nobody waits for. */
  readonly #fork: (effect: Effect.Effect<void>) => void
  readonly #observed: Observed.SessionObserved
  readonly #states: States
  readonly #watches: Watches
  readonly #requests: Requests
  readonly #handles: Handles
  /** End the reads of access lists that are under way. */
  readonly #reading = new Set<() => void>()

  constructor(
    options: NativeSessionOptions,
    observed: Observed.SessionObserved,
    fork: (effect: Effect.Effect<void>) => void
  ) {
    const { connect } = options
    const defect = (defect: unknown) => {
      const told = Effect.logError("what listens to a ZooKeeper session has thrown", defect)
      fork(Effect.annotateLogs(told, { connect }))
    }
    this.connect = connect
    this.#observed = observed
    this.#connectTimeoutMillis = options.connectTimeoutMillis
    this.#sessionTimeoutMillis = options.sessionTimeoutMillis
    this.#fork = fork
    this.#states = new States(defect, observed.now)
    this.#watches = new Watches(defect)
    this.#requests = new Requests(observed)
    this.#handles = new Handles(options, {
      states: this.#states,
      watches: this.#watches,
      requests: this.#requests,
      now: observed.now,
      log: observed.log,
      run: fork,
      defect
    })
  }

  readonly status = () => this.#states.status()
  readonly subscribe: Session["subscribe"] = (f) => this.#states.subscribe(f)
  get states() {
    return this.#states.states
  }
  readonly watches = () => this.#watches.size
  readonly unwatch: Session["unwatch"] = (path, watcher) => this.#watches.remove(path, watcher)

  #request<A>(
    operation: string,
    path: string,
    valid: boolean,
    send: (client: NativeClient, answer: Answer<A>, left: () => boolean) => void,
    steady = false
  ) {
    return this.#requests.request<A>(
      operation,
      path,
      (answer, left) => {
        if (!valid) answer(codeOf("BadArguments"))
        // A connection that is just being lost: its loss is told in a moment.
        else if (this.#handles.current === undefined) answer(codeOf("ConnectionLoss"))
        else send(this.#handles.current.client, answer, left)
      },
      steady
    )
  }

  /** Keeps a watcher whose read has set a watch, in the same turn: what the server tells next may be for it. */
  #watch(kind: WatchKind, path: string, missing: boolean, watcher: Watcher | undefined, left: () => boolean): void {
    if (watcher !== undefined && !left()) this.#watches.add(kind, path, missing, watcher)
  }

  readonly get: Session["get"] = (path, watcher) =>
    this.#request(
      "get",
      path,
      isPath(path),
      (client, answer, left) =>
        client.get(path, watcher !== undefined, (...outcome) => {
          if (outcome[0] === 0) this.#watch("data", path, false, watcher, left)
          answer(...outcome)
        })
    )

  readonly children: Session["children"] = (path, watcher) =>
    this.#request(
      "children",
      path,
      isPath(path),
      (client, answer, left) =>
        client.children(path, watcher !== undefined, (...outcome) => {
          if (outcome[0] === 0) this.#watch("child", path, false, watcher, left)
          answer(...outcome)
        })
    )

  readonly exists: Session["exists"] = (path, watcher) =>
    this.#request(
      "exists",
      path,
      isPath(path),
      (client, answer, left) =>
        client.exists(path, watcher !== undefined, (...outcome) => {
          const missing = outcome[0] === codeOf("NoNode")
          if (outcome[0] === 0 || missing) this.#watch("data", path, missing, watcher, left)
          if (missing) answer(0, undefined)
          else answer(...outcome)
        })
    )

  readonly create: Session["create"] = (path, data, { acl, mode = "persistent" } = {}) => {
    const valid = isPath(mode.endsWith("Sequential") ? `${path}0` : path) && path !== "/"
    const created = this.#request<string>(
      "create",
      path,
      valid,
      (client, answer, left) =>
        client.create(path, data, mode, (...outcome) => {
          if (outcome[0] === 0 && acl !== undefined && left()) this.#undo(outcome[1]!, mode)
          answer(...outcome)
        })
    )
    if (acl === undefined) return created
    // The addon makes every node open to anybody. One that is not closed must not stay, whoever still waits for it.
    return Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(restore(created), (made) =>
        restore(this.setAcl(made, acl, 0)).pipe(
          Effect.as(made),
          Effect.onError(() => Effect.sync(() => this.#undo(made, mode)))
        ))
    )
  }

  /** Deletes a node that anybody may do anything with, as soon as that can be; if it cannot be in the session's timeout, that is logged. */
  #undo(path: string, mode: CreateMode): void {
    const isOver = (tag: string) => tag === "SessionClosed" || tag === "SessionExpired"
    this.#fork(
      this.delete(path).pipe(
        Effect.retry({ while: ({ _tag }) => _tag === "ConnectionLoss" || _tag === "OperationTimeout" }),
        Effect.timeout(this.#sessionTimeoutMillis),
        Effect.catch((error) => {
          // What is ephemeral goes with the session.
          if (error._tag === "NoNode" || (mode.startsWith("ephemeral") && isOver(error._tag))) return Effect.void
          return Effect.annotateLogs(Effect.logError("a ZooKeeper node stays open to anybody", error), {
            connect: this.connect,
            path
          })
        })
      )
    )
  }

  readonly set: Session["set"] = (path, data, version) =>
    this.#request("set", path, isPath(path), (client, answer) => client.set(path, data, version, answer))

  readonly delete: Session["delete"] = (path, version) =>
    this.#request(
      "delete",
      path,
      isPath(path) && path !== "/",
      (client, answer) => client.delete(path, version, answer)
    )

  readonly acl: Session["acl"] = (path) =>
    this.#request("acl", path, isPath(path), (_client, answer) => {
      const source = {
        addresses: this.#handles.current!.addresses,
        timeoutMillis: this.#connectTimeoutMillis,
        auth: this.#handles.auth
      }
      const stop = readAcl(source, path, (...outcome) => {
        this.#reading.delete(stop)
        answer(...outcome)
      })
      this.#reading.add(stop)
    })

  readonly setAcl: Session["setAcl"] = (path, acl, version) =>
    this.#request(
      "setAcl",
      path,
      isPath(path),
      (client, answer) => isAcl(acl) ? client.setAcl(path, acl, version, answer) : answer(codeOf("InvalidAcl"))
    )

  // Steady: the native client shows them again after each reconnect, until they are taken or refused.
  readonly auth: Session["auth"] = (scheme, credentials) =>
    this.#request(
      "auth",
      "",
      true,
      (client, answer) => {
        const current = this.#handles.current!
        const confirm = () =>
          client.confirm((...outcome) => {
            // Anything else comes from the end of the connection, which asks again, or of the handle, which answers.
            if (outcome[0] !== 0) return
            current.showing.delete(confirm)
            this.#handles.remember({ scheme, credentials })
            answer(0, undefined)
          })
        client.auth(scheme, credentials, answer)
        current.showing.add(confirm)
        confirm()
      },
      true
    )

  readonly sync: Session["sync"] = (path) =>
    this.#request("sync", path, isPath(path), (client, answer) => client.sync(path, answer))

  /** Shows it until the scope closes; `options` are those in force. */
  show(options: Readonly<Record<string, OptionInForce>>): Effect.Effect<void, never, Scope.Scope> {
    const parts = { states: this.#states, watches: this.#watches, requests: this.#requests }
    return Observed.show(this, this.#observed, parts, options)
  }

  /** Keeps it connected, until it is interrupted. */
  get run(): Effect.Effect<never> {
    return this.#handles.run
  }

  /** Closes it: operations fail from now on, and those who listen hear of it. */
  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    for (const stop of this.#reading) stop()
    this.#requests.close()
    this.#states.set({ state: "Closed", cause: undefined })
    this.#watches.lose()
    return this.#handles.close
  })
}

/**
 * A session until the scope closes; the handle is closed with it, and nothing keeps the process. It does not wait for a connection. `described`:
 * the options in force, for those who look at it.
 */
export const make = (
  options: NativeSessionOptions,
  described: Readonly<Record<string, OptionInForce>> = {}
): Effect.Effect<Session, never, Scope.Scope> =>
  Effect.gen(function*() {
    const observed = yield* Observed.observe(options.connect)
    const context = yield* Effect.context<never>()
    const fork = (effect: Effect.Effect<void>) => void Effect.runForkWith(context)(effect)
    const session = yield* Effect.acquireRelease(
      Effect.sync(() => new NativeSession(options, observed, fork)),
      (made) => made.close
    )
    yield* Effect.forkScoped(session.run)
    yield* session.show(described)
    return session
  })

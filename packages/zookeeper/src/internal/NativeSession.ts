/** A session over the native client: it goes on with another handle when one is stuck, and with another session when it has expired. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type { Session, Watcher } from "../Session.ts"
import type { ZooKeeperHost } from "../uri.ts"
import type { Addon } from "./addon.ts"
import { isAcl, isPath } from "./arguments.ts"
import { codeOf } from "./codes.ts"
import { endSession } from "./endSession.ts"
import { type Credentials, NativeClient, type SessionKey } from "./NativeClient.ts"
import { readAcl } from "./readAcl.ts"
import { type Answer, Requests } from "./Requests.ts"
import { States } from "./States.ts"
import { Watches, type WatchKind } from "./Watches.ts"

/** What a session is made of; all times in milliseconds. */
export interface NativeSessionOptions {
  readonly addon: Addon
  readonly connect: string
  readonly hosts: ReadonlyArray<ZooKeeperHost>
  readonly sessionTimeoutMillis: number
  readonly connectTimeoutMillis: number
  readonly auth: ReadonlyArray<Credentials>
  /** The addresses of a name. */
  readonly lookup: (host: string) => Effect.Effect<ReadonlyArray<string>, unknown>
}

/** How often a handle that is not connected is looked at. */
const lookMillis = 250

/** The pause between two handles: twice as long with each round of the servers that failed. */
const firstPauseMillis = 200

/** The longest pause between two handles. */
const maxPauseMillis = 5000

/** The pause after credentials were refused: they are hardly good at once. */
const refusedPauseMillis = 30_000

/** A connection that held for less is no success. */
const shortMillis = 1_000

/** After so many short connections in a row the handle is given up, with whatever it says at each that ends them. */
const shortConnections = 5

/** How long the servers have to hear of the end of a session. */
const endMillis = 1000

/** Where servers are, in the order they are tried. */
type Addresses = ReadonlyArray<{ readonly address: string; readonly port: number }>

/** Why a handle is of no use any more. */
type Ended =
  | { readonly _tag: "Expired" }
  | { readonly _tag: "Refused" }
  | { readonly _tag: "Stuck"; readonly cause: Error }

/** A handle in use, and what is known of it. */
interface Current {
  readonly client: NativeClient
  readonly addresses: Addresses
  /** When it was opened, connected or disconnected. */
  since: number
  connected: boolean
  wasConnected: boolean
  /** Short connections in a row. */
  short: number
  /** Credentials are being shown which the servers may refuse: each asks whether they did. */
  readonly showing: Set<() => void>
  ended: Ended | undefined
}

class NativeSession implements Session {
  readonly connect: string
  readonly #options: NativeSessionOptions
  readonly #clock: Clock.Clock
  readonly #log: (effect: Effect.Effect<void>) => void
  readonly #states: States
  readonly #watches: Watches
  readonly #requests = new Requests()
  /** Open when something has happened to the handle. */
  readonly #news = Latch.makeUnsafe(false)
  #auth: ReadonlyArray<Credentials>
  #key: SessionKey | undefined
  #current: Current | undefined
  /** The addresses that were found last. */
  #known: Addresses = []
  /** End the reads of access lists that are under way. */
  readonly #reading = new Set<() => void>()

  constructor(options: NativeSessionOptions, clock: Clock.Clock, log: (effect: Effect.Effect<void>) => void) {
    this.connect = options.connect
    this.#options = options
    this.#clock = clock
    this.#log = log
    this.#auth = options.auth
    this.#states = new States(this.#defect)
    this.#watches = new Watches(this.#defect)
  }

  readonly #defect = (defect: unknown): void =>
    this.#log(Effect.logError("what listens to a ZooKeeper session has thrown", defect))

  readonly status = () => this.#states.status()
  readonly subscribe: Session["subscribe"] = (f) => this.#states.subscribe(f)
  get states() {
    return this.#states.states
  }
  readonly watches = () => this.#watches.size

  #now(): number {
    return this.#clock.currentTimeMillisUnsafe()
  }

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
        else if (this.#current === undefined) answer(codeOf("ConnectionLoss"))
        else send(this.#current.client, answer, left)
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
      (client, answer) => client.create(path, data, mode, answer)
    )
    if (acl === undefined) return created
    return Effect.flatMap(created, (made) =>
      // The addon makes every node open to anybody. One that cannot be closed must not stay.
      this.setAcl(made, acl, 0).pipe(
        Effect.as(made),
        Effect.tapError(() => Effect.ignore(this.delete(made)))
      ))
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
        addresses: this.#current!.addresses,
        timeoutMillis: this.#options.connectTimeoutMillis,
        auth: this.#auth
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
        const current = this.#current!
        const confirm = () =>
          client.confirm((...outcome) => {
            // Anything else comes from the end of the connection, which asks again, or of the handle, which answers.
            if (outcome[0] !== 0) return
            current.showing.delete(confirm)
            this.#remember({ scheme, credentials })
            answer(0, undefined)
          })
        client.auth(scheme, credentials, answer)
        current.showing.add(confirm)
        confirm()
      },
      true
    )

  #remember(shown: Credentials): void {
    const same = (other: Credentials) =>
      other.scheme === shown.scheme && Redacted.value(other.credentials) === Redacted.value(shown.credentials)
    if (!this.#auth.some(same)) this.#auth = [...this.#auth, shown]
  }

  readonly sync: Session["sync"] = (path) =>
    this.#request("sync", path, isPath(path), (client, answer) => client.sync(path, answer))

  /** Keeps a handle in use, one after the other, until it is interrupted. */
  readonly run: Effect.Effect<never> = Effect.gen({ self: this }, function*() {
    let failures = 0
    while (true) {
      const addresses = yield* this.#addresses()
      // Each handle begins with another server, and only when each was tried does the pause grow.
      const first = addresses.length === 0 ? 0 : failures % addresses.length
      let rounds = addresses.length === 0 ? failures : Math.floor(failures / addresses.length)
      failures++
      if (addresses.length > 0) {
        const current = this.#open([...addresses.slice(first), ...addresses.slice(0, first)])
        const ended = yield* this.#end(current)
        yield* this.#leave(current)
        if (current.wasConnected) rounds = failures = 0
        if (ended._tag === "Refused" && current.showing.size === 0) {
          yield* Effect.sleep((0.5 + (yield* Random.next)) * refusedPauseMillis)
        }
      }
      // Half of it is chance, so that clients that lost one server do not come back as one.
      const pause = Math.min(maxPauseMillis, firstPauseMillis * 2 ** Math.min(rounds, 10))
      yield* Effect.sleep(pause * (0.5 + 0.5 * (yield* Random.next)))
    }
  })

  /** The addresses of all servers that can be resolved now. */
  #addresses(): Effect.Effect<Addresses> {
    const resolved = Effect.forEach(this.#options.hosts, ({ host, port }) =>
      this.#options.lookup(host).pipe(
        Effect.timeout(this.#options.connectTimeoutMillis),
        Effect.map((addresses) => addresses.map((address) => ({ address, port }))),
        Effect.catchCause((cause) =>
          Effect.sync(() => {
            this.#states.set({ cause: new Error(`${host} cannot be resolved`, { cause }) })
            return []
          })
        )
      ), { concurrency: "unbounded" })
    return Effect.flatMap(resolved, (all) => Random.shuffle(all.flat()))
  }

  #open(addresses: Addresses): Current {
    const listening = (f: (current: Current) => void) => (): void => {
      if (this.#current !== current || current.ended !== undefined) return
      f(current)
      this.#news.openUnsafe()
    }
    const client = new NativeClient(
      this.#options.addon,
      {
        addresses,
        sessionTimeoutMillis: this.#options.sessionTimeoutMillis,
        session: this.#key,
        auth: this.#auth
      },
      {
        connected: listening((now) => this.#connected(now)),
        disconnected: listening((now) => this.#disconnected(now)),
        closed: (code) =>
          listening((now) => {
            now.connected = false
            now.ended = code === codeOf("SessionExpired")
              ? { _tag: "Expired" }
              : code === -113
              ? { _tag: "Refused" }
              : { _tag: "Stuck", cause: new Error(`the native client has closed itself (${code})`) }
            this.#over(now.ended)
          })(),
        watch: (event, path) => this.#current === current ? this.#watches.fire(event, path) : undefined,
        defect: this.#defect
      }
    )
    const current: Current = {
      client,
      addresses,
      since: this.#now(),
      connected: false,
      wasConnected: false,
      short: 0,
      showing: new Set(),
      ended: undefined
    }
    this.#current = current
    this.#known = addresses
    return current
  }

  #connected(current: Current): void {
    // A connection that is lost while credentials are being refused is replaced without a word.
    this.#disconnected(current)
    const { generation, id } = this.status()
    const first = !current.wasConnected
    current.connected = true
    current.wasConnected = true
    current.since = this.#now()
    this.#key = current.client.session
    if (first && this.#key.id !== id) {
      this.#log(
        Effect.annotateLogs(Effect.logInfo("ZooKeeper session"), { connect: this.connect, session: this.#key.id })
      )
    }
    this.#states.set({
      state: "Connected",
      id: this.#key.id,
      generation: first ? generation + 1 : generation,
      cause: undefined
    })
    for (const confirm of current.showing) confirm()
    this.#requests.open()
  }

  #disconnected(current: Current): void {
    if (!current.connected) return
    current.connected = false
    current.short = this.#now() - current.since < shortMillis ? current.short + 1 : 0
    current.since = this.#now()
    this.#states.set({ state: "Disconnected", cause: new Error("the connection was lost") })
    this.#log(Effect.annotateLogs(Effect.logWarning("ZooKeeper connection lost"), { connect: this.connect }))
    this.#requests.lost(codeOf("ConnectionLoss"))
  }

  /** Waits until a handle is of no use any more. */
  #end(current: Current): Effect.Effect<Ended> {
    return Effect.suspend(() => {
      this.#news.closeUnsafe()
      if (current.ended === undefined) {
        current.ended = this.#stuck(current)
        if (current.ended !== undefined) this.#over(current.ended)
      }
      if (current.ended !== undefined) return Effect.succeed(current.ended)
      const wait = current.connected
        ? this.#news.await
        : Effect.timeoutOption(this.#news.await, lookMillis)
      return Effect.flatMap(wait, () => this.#end(current))
    })
  }

  #stuck(current: Current): Ended | undefined {
    const stuck = (what: string): Ended => ({ _tag: "Stuck", cause: new Error(what) })
    if (current.connected) return undefined
    if (current.short >= shortConnections) return stuck("each connection broke at once")
    if (this.#now() - current.since >= this.#options.connectTimeoutMillis) return stuck("no connection in time")
    // Nothing is lost with a handle that was never connected, and one whose first attempt was refused may never make another.
    return !current.wasConnected && current.client.idle ? stuck("the connection was refused") : undefined
  }

  /** Lets go of a handle. */
  #leave(current: Current): Effect.Effect<void> {
    return Effect.uninterruptible(Effect.callback((resume) => {
      if (this.#current === current) this.#current = undefined
      // This may run in a callback of the handle, which must not be closed there.
      setImmediate(() => {
        current.client.close()
        resume(Effect.void)
      })
    }))
  }

  /** Says that a handle, and with it the watches that were set through it, is gone. */
  #over(ended: Ended): void {
    const { connect } = this
    if (ended._tag === "Expired") {
      this.#key = undefined
      this.#states.set({ state: "Expired", id: undefined, cause: undefined })
      this.#log(Effect.annotateLogs(Effect.logWarning("ZooKeeper session expired"), { connect }))
      this.#requests.shut(codeOf("SessionExpired"))
    } else if (ended._tag === "Refused") {
      this.#states.set({ state: "AuthFailed", cause: undefined })
      this.#log(Effect.annotateLogs(Effect.logError("ZooKeeper refused the credentials"), { connect }))
      this.#requests.shut(codeOf("AuthFailed"))
    } else {
      const { state } = this.status()
      this.#states.set({ state: state === "Connected" ? "Disconnected" : state, cause: ended.cause })
      this.#requests.shut(codeOf("ConnectionLoss"))
    }
    this.#watches.lose()
  }

  /** Closes it: operations fail from now on, and those who listen hear of it. */
  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    const current = this.#current
    for (const stop of this.#reading) stop()
    this.#requests.close()
    this.#states.set({ state: "Closed", cause: undefined })
    this.#watches.lose()
    const key = this.#key
    return Effect.andThen(
      current === undefined ? Effect.void : this.#leave(current),
      key === undefined ? Effect.void : endSession(this.#known, key, endMillis)
    )
  })
}

/** A session until the scope closes; the handle is closed with it, and nothing keeps the process. It does not wait for a connection. */
export const make = (options: NativeSessionOptions): Effect.Effect<Session, never, Scope.Scope> =>
  Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const context = yield* Effect.context<never>()
    const log = (effect: Effect.Effect<void>) => void Effect.runForkWith(context)(effect)
    const session = yield* Effect.acquireRelease(
      Effect.sync(() => new NativeSession(options, clock, log)),
      (made) => made.close
    )
    yield* Effect.forkScoped(session.run)
    return session
  })

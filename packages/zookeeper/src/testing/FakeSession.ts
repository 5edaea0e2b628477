/** A session with the in-memory ZooKeeper: answers come in order, one after the other, as over a connection. */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import type { ZooKeeperError } from "../errors.ts"
import { codeOf, type FailureTag } from "../internal/codes.ts"
import { Requests } from "../internal/Requests.ts"
import type { SessionObserved, SessionParts } from "../internal/sessionObserved.ts"
import { States } from "../internal/States.ts"
import { Watches } from "../internal/Watches.ts"
import type { Session, Watcher, WatchEvent } from "../Session.ts"
import { digest, type Identity, Refused, type Tree } from "./Tree.ts"

/** The operations of a session, by the names of its methods. */
export type Operation =
  | "get"
  | "children"
  | "exists"
  | "create"
  | "set"
  | "delete"
  | "acl"
  | "setAcl"
  | "auth"
  | "sync"

/** What the sessions of one tree share. */
export interface World {
  readonly tree: Tree
  readonly clock: Clock.Clock
  /** How long an answer takes, in milliseconds. */
  readonly latency: () => number
  /** Whether connections to the servers of a session can be made. */
  readonly reachable: (connect: string) => boolean
  readonly newId: () => string
  /** An operation is about to be done: the fault that it meets, if any. */
  readonly arrived: (
    operation: Operation,
    path: string
  ) => { readonly failure: FailureTag; readonly applied?: boolean | undefined } | undefined
}

interface Arrival {
  readonly due: number
  /** The connection it came over. */
  readonly connection: number
  readonly run: () => void
}

/** A defect of a watcher or a listener: nothing that a test may overlook. */
const defect = (thrown: unknown) => {
  throw thrown
}

/** One session. */
export class FakeSession implements Session {
  readonly connect: string
  readonly #world: World
  readonly #states: States
  readonly #watches = new Watches(defect)
  readonly #requests: Requests
  readonly #arrivals = Effect.runSync(Queue.unbounded<Arrival>())
  /** Grows with each connection, so that what came over one that broke is told from the rest. */
  #connection = 0
  #connected = false
  #identities: ReadonlyArray<Identity> = []
  /** The last change that this client knew of when it was disconnected. */
  #seen = 0
  #ended = false
  /** No watch of an earlier connection is left. */
  #fresh = false

  constructor(connect: string, world: World, observed: SessionObserved) {
    this.connect = connect
    this.#world = world
    this.#states = new States(defect, observed.now)
    this.#requests = new Requests(observed)
  }

  /** What of it is counted. */
  get parts(): SessionParts {
    return { states: this.#states, watches: this.#watches, requests: this.#requests }
  }

  readonly status = () => this.#states.status()
  readonly subscribe: Session["subscribe"] = (f) => this.#states.subscribe(f)
  get states() {
    return this.#states.states
  }
  readonly watches = () => this.#watches.size
  readonly unwatch: Session["unwatch"] = (path, watcher) => this.#watches.remove(path, watcher)

  /** How many watches the servers hold for it. */
  get serverWatches(): number {
    return this.#connected ? this.#watches.size : 0
  }

  /** Connects, and answers for as long as it runs. */
  readonly run: Effect.Effect<never> = Effect.suspend(() => {
    this.reconnect()
    return Effect.forever(Effect.flatMap(Queue.take(this.#arrivals), ({ connection, due, run }) => {
      const answer = () => {
        if (connection === this.#connection && this.#connected) run()
      }
      const wait = due - this.#world.clock.currentTimeMillisUnsafe()
      return wait > 0 ? Effect.andThen(Effect.sleep(wait), Effect.sync(answer)) : Effect.sync(answer)
    }))
  })

  #request<A>(
    operation: Operation,
    path: string,
    run: () => A,
    watch: (result: A | Refused) => void = () => {}
  ): Effect.Effect<A, ZooKeeperError> {
    return this.#requests.request<A>(operation, path, (answer, left) => {
      const due = this.#world.clock.currentTimeMillisUnsafe() + this.#world.latency()
      const done = () => {
        const fault = this.#world.arrived(operation, path)
        if (fault !== undefined && fault.applied !== true) return answer(codeOf(fault.failure))
        const result = attempt(run)
        if (!left() && fault === undefined) watch(result)
        if (fault !== undefined) answer(codeOf(fault.failure))
        else if (result instanceof Refused) answer(result.code)
        else answer(0, result)
      }
      Queue.offerUnsafe(this.#arrivals, { due, connection: this.#connection, run: done })
    })
  }

  readonly get: Session["get"] = (path, watcher) =>
    this.#request("get", path, () => this.#world.tree.get(path, this.#identities), this.#watch("data", path, watcher))

  readonly children: Session["children"] = (path, watcher) =>
    this.#request(
      "children",
      path,
      () => this.#world.tree.children(path, this.#identities),
      this.#watch("child", path, watcher)
    )

  readonly exists: Session["exists"] = (path, watcher) =>
    this.#request(
      "exists",
      path,
      () => this.#world.tree.exists(path, this.#identities),
      this.#watch("data", path, watcher)
    )

  #watch(kind: "data" | "child", path: string, watcher: Watcher | undefined) {
    return (result: unknown) => {
      if (watcher === undefined || result instanceof Refused) return
      this.#watches.add(kind, path, result === undefined, watcher)
    }
  }

  readonly create: Session["create"] = (path, data, options = {}) =>
    this.#request(
      "create",
      path,
      () =>
        this.#world.tree.create(
          path,
          data,
          options.mode ?? "persistent",
          this.status().id,
          options.acl,
          this.#identities
        )
    )

  readonly set: Session["set"] = (path, data, version) =>
    this.#request("set", path, () => this.#world.tree.set(path, data, version, this.#identities))

  readonly delete: Session["delete"] = (path, version) =>
    this.#request("delete", path, () => this.#world.tree.delete(path, version, this.#identities))

  readonly acl: Session["acl"] = (path) =>
    this.#request("acl", path, () => this.#world.tree.acl(path, this.#identities))

  readonly setAcl: Session["setAcl"] = (path, acl, version) =>
    this.#request("setAcl", path, () => this.#world.tree.setAcl(path, acl, version, this.#identities))

  readonly auth: Session["auth"] = (scheme, credentials) =>
    this.#request("auth", "", () => {
      if (scheme !== "digest") return this.#refuse()
      const id = digest(Redacted.value(credentials) as string)
      if (this.#identities.some((identity) => identity.id === id)) return
      this.#identities = [...this.#identities, { scheme, id }]
    })

  readonly sync: Session["sync"] = (path) => this.#request("sync", path, () => {})

  /** A change of the tree, which the server tells a client that is connected. */
  changed(event: WatchEvent, path: string): void {
    if (this.#connected) this.#watches.fire(event, path)
  }

  /** The connection breaks. */
  disconnect(): void {
    if (!this.#connected) return
    this.#drop("ConnectionLoss")
    this.#states.set({ state: "Disconnected", cause: new Error("the connection was lost") })
  }

  /** A connection is made, if it can be: first after the start, or again. */
  reconnect(): void {
    if (this.#connected || this.status().state === "Closed" || !this.#world.reachable(this.connect)) return
    if (this.#ended) return this.#renew()
    this.#connected = true
    const { generation, id = this.#world.newId() } = this.status()
    if (id !== this.status().id) this.#fresh = true
    this.#states.set({ state: "Connected", id, generation: generation + (this.#fresh ? 1 : 0), cause: undefined })
    this.#fresh = false
    this.#catchUp()
    if (this.#connected) this.#requests.open()
  }

  /** The servers end the session. */
  expire(): void {
    const { id } = this.status()
    if (id === undefined || this.#ended) return
    this.#ended = true
    // Its own watches die with it, before the changes that its end makes.
    const connected = this.#connected
    if (connected) this.#drop("SessionExpired")
    this.#world.tree.end(id)
    if (connected) this.#renew()
  }

  close(): void {
    this.#connected = false
    this.#requests.close()
    const { id } = this.status()
    this.#states.set({ state: "Closed", cause: undefined })
    this.#watches.lose()
    if (id !== undefined && !this.#ended) this.#world.tree.end(id)
  }

  #drop(failure: FailureTag): void {
    this.#connected = false
    this.#connection++
    this.#seen = this.#world.tree.zxid
    this.#requests.shut(codeOf(failure))
  }

  /** The session is over: a new one takes its place. */
  #renew(): void {
    if (this.#connected) this.#drop("SessionExpired")
    this.#ended = false
    this.#states.set({ state: "Expired", id: undefined, cause: undefined })
    this.#watches.lose()
    this.reconnect()
  }

  /** As the servers do: whoever shows credentials that are none is thrown out, and goes on with the session without them. */
  #refuse(): void {
    this.#drop("AuthFailed")
    this.#states.set({ state: "AuthFailed", cause: undefined })
    this.#watches.lose()
    this.#fresh = true
    this.reconnect()
  }

  /** What the server tells a client that shows its watches again: of each, what happened meanwhile. */
  #catchUp(): void {
    const tree = this.#world.tree
    for (const { kind, missing, path } of this.#watches.all()) {
      const stat = tree.exists(path)
      if (stat === undefined) {
        if (!missing) this.#watches.fire("Deleted", path)
      } else if (missing) this.#watches.fire("Created", path)
      else if (kind === "data" && stat.modifiedZxid > this.#seen) this.#watches.fire("DataChanged", path)
      else if (kind === "child" && stat.childrenZxid > this.#seen) this.#watches.fire("ChildrenChanged", path)
    }
  }
}

const attempt = <A>(run: () => A): A | Refused => {
  try {
    return run()
  } catch (thrown) {
    if (thrown instanceof Refused) return thrown
    throw thrown
  }
}

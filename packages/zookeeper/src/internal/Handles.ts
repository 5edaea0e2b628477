/** The handles of one session, one after the other: another when one is stuck, and another session when it has expired. */
import type { StateLog } from "@scales-rpc/core"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import type { ZooKeeperHost } from "../uri.ts"
import type { Addon } from "./addon.ts"
import { type Addresses, type Lookup, resolveHosts } from "./addresses.ts"
import { codeOf } from "./codes.ts"
import { type Current, type Ended, lost, stuck } from "./current.ts"
import { endSession } from "./endSession.ts"
import { type Credentials, NativeClient, type SessionKey } from "./NativeClient.ts"
import type { Requests } from "./Requests.ts"
import type { States } from "./States.ts"
import type { Watches } from "./Watches.ts"

/** What a session is made of; all times in milliseconds. */
export interface NativeSessionOptions {
  readonly addon: Addon
  readonly connect: string
  readonly hosts: ReadonlyArray<ZooKeeperHost>
  readonly sessionTimeoutMillis: number
  readonly connectTimeoutMillis: number
  readonly auth: ReadonlyArray<Credentials>
  /** The addresses of a name. */
  readonly lookup: Lookup
}

/** How often a handle that is not connected is looked at. */
const lookMillis = 250

/** The pause between two handles: twice as long with each round of the servers that failed. */
const firstPauseMillis = 200

/** The longest pause between two handles. */
const maxPauseMillis = 5000

/** The pause after credentials were refused: they are hardly good at once. */
const refusedPauseMillis = 30_000

/** How long the servers have to hear of the end of a session. */
const endMillis = 1000

/** What hears of the handles, and where what they cannot tell anybody is told. */
interface Surroundings {
  readonly states: States
  readonly watches: Watches
  readonly requests: Requests
  /** Milliseconds that never go back. */
  readonly now: () => number
  readonly log: StateLog
  /** Runs what nobody waits for. */
  readonly run: (effect: Effect.Effect<void>) => void
  readonly defect: (defect: unknown) => void
}

/** Keeps a handle in use while it runs. */
export class Handles {
  readonly #options: NativeSessionOptions
  readonly #now: () => number
  readonly #log: StateLog
  readonly #run: (effect: Effect.Effect<void>) => void
  readonly #defect: (defect: unknown) => void
  readonly #states: States
  readonly #watches: Watches
  readonly #requests: Requests
  /** Open when something has happened to the handle. */
  readonly #news = Latch.makeUnsafe(false)
  #auth: ReadonlyArray<Credentials>
  #key: SessionKey | undefined
  #current: Current | undefined
  /** The addresses that were found last. */
  #known: Addresses = []
  /** What was said to keep it from connecting, since it last was. */
  readonly #said = new Set<string>()

  constructor(
    options: NativeSessionOptions,
    { defect, log, now, requests, run, states, watches }: Surroundings
  ) {
    this.#options = options
    this.#auth = options.auth
    this.#now = now
    this.#log = log
    this.#run = run
    this.#defect = defect
    this.#states = states
    this.#watches = watches
    this.#requests = requests
  }

  /** The handle in use, if any. */
  get current(): Current | undefined {
    return this.#current
  }

  /** What is shown to the servers, by this handle and those after it. */
  get auth(): ReadonlyArray<Credentials> {
    return this.#auth
  }

  /** Shows these too, from the next handle on. */
  remember(shown: Credentials): void {
    const same = (other: Credentials) =>
      other.scheme === shown.scheme && Redacted.value(other.credentials) === Redacted.value(shown.credentials)
    if (!this.#auth.some(same)) this.#auth = [...this.#auth, shown]
  }

  /** Keeps a handle in use, one after the other, until it is interrupted, whatever is thrown in it. */
  readonly run: Effect.Effect<never> = Effect.suspend(() => {
    let failures = 0
    /** The result: how often all servers failed. */
    const round = Effect.gen({ self: this }, function*() {
      const { connectTimeoutMillis, hosts, lookup } = this.#options
      const addresses = yield* resolveHosts(hosts, lookup, connectTimeoutMillis, (cause) => {
        this.#states.set({ cause })
        this.#unreachable(cause)
      })
      // Each handle begins with another server, and only when each was tried does the pause grow.
      const first = addresses.length === 0 ? 0 : failures % addresses.length
      const rounds = addresses.length === 0 ? failures : Math.floor(failures / addresses.length)
      failures++
      if (addresses.length === 0) return rounds
      const current = this.#open([...addresses.slice(first), ...addresses.slice(0, first)])
      const ended = yield* this.#end(current)
      yield* this.#leave(current)
      if (current.wasConnected) failures = 0
      if (ended._tag === "Refused" && current.showing.size === 0) {
        yield* Effect.sleep((0.5 + (yield* Random.next)) * refusedPauseMillis)
      }
      return current.wasConnected ? 0 : rounds
    })
    return round.pipe(
      Effect.catchDefect((defect) => Effect.as(this.#broken(defect), failures)),
      Effect.flatMap((rounds) => {
        // Half of it is chance, so that clients that lost one server do not come back as one.
        const pause = Math.min(maxPauseMillis, firstPauseMillis * 2 ** Math.min(rounds, 10))
        return Effect.flatMap(Random.next, (chance) => Effect.sleep(pause * (0.5 + 0.5 * chance)))
      }),
      Effect.forever
    )
  })

  /** Something has thrown: the handle, if there is one, may be of no use. */
  #broken(defect: unknown): Effect.Effect<void> {
    return Effect.suspend(() => {
      const cause = new Error(`something has thrown: ${String(defect)}`, { cause: defect })
      if (this.#isNew(cause)) {
        const { connect } = this.#options
        const told = Effect.logError("ZooKeeper session has thrown, and goes on", defect)
        this.#run(Effect.annotateLogs(told, { connect, cause: cause.message }))
      }
      const current = this.#current
      if (current === undefined) {
        this.#states.set({ cause })
        return Effect.void
      }
      current.connected = false
      if (current.ended === undefined) {
        current.ended = { _tag: "Stuck", cause }
        this.#over(current.ended)
      }
      return this.#leave(current)
    })
  }

  /** Whether this is the first time since it was connected that it is kept from connecting for that. */
  #isNew({ message }: Error): boolean {
    if (this.#said.has(message)) return false
    this.#said.add(message)
    return true
  }

  /** Logs what keeps it from connecting. */
  #unreachable(cause: Error): void {
    if (this.#isNew(cause)) this.#log.say("warning", "ZooKeeper cannot be reached", { cause: cause.message })
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
    const { generation, id } = this.#states.status()
    const first = !current.wasConnected
    current.connected = true
    current.wasConnected = true
    current.since = this.#now()
    this.#said.clear()
    this.#key = current.client.session
    const goneMillis = Math.round(this.#states.goneMillis)
    const session = this.#key.id
    if (session !== id) {
      this.#log.say("info", "ZooKeeper session", generation === 0 ? { session } : { session, goneMillis })
    } else this.#log.say("info", "ZooKeeper connection is back", { session, goneMillis })
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
    lost(current, this.#now())
    this.#states.set({ state: "Disconnected", cause: new Error("the connection was lost") })
    this.#log.say("warning", "ZooKeeper connection lost", { session: this.#key?.id })
    this.#requests.lost(codeOf("ConnectionLoss"))
  }

  /** Waits until a handle is of no use any more. */
  #end(current: Current): Effect.Effect<Ended> {
    return Effect.suspend(() => {
      this.#news.closeUnsafe()
      if (current.ended === undefined) {
        current.ended = stuck(current, this.#now(), this.#options.connectTimeoutMillis)
        if (current.ended !== undefined) this.#over(current.ended)
      }
      if (current.ended !== undefined) return Effect.succeed(current.ended)
      const wait = current.connected
        ? this.#news.await
        : Effect.timeoutOption(this.#news.await, lookMillis)
      return Effect.flatMap(wait, () => this.#end(current))
    })
  }

  /** Lets go of a handle. */
  #leave(current: Current): Effect.Effect<void> {
    return Effect.uninterruptible(Effect.callback((resume) => {
      if (this.#current === current) this.#current = undefined
      // This may run in a callback of the handle, which must not be closed there.
      setImmediate(() => {
        try {
          current.client.close()
        } catch (thrown) {
          const told = Effect.logError("a ZooKeeper handle cannot be closed", thrown)
          this.#run(Effect.annotateLogs(told, { connect: this.#options.connect }))
        }
        resume(Effect.void)
      })
    }))
  }

  /** Says that a handle, and with it the watches that were set through it, is gone. */
  #over(ended: Ended): void {
    if (ended._tag === "Expired") {
      this.#log.say("warning", "ZooKeeper session expired", { session: this.#key?.id })
      this.#key = undefined
      this.#states.set({ state: "Expired", id: undefined, cause: undefined })
      this.#requests.shut(codeOf("SessionExpired"))
    } else if (ended._tag === "Refused") {
      this.#states.set({ state: "AuthFailed", cause: undefined })
      this.#log.say("error", "ZooKeeper refused the credentials")
      this.#requests.shut(codeOf("AuthFailed"))
    } else {
      const { cause } = ended
      this.#states.set(this.#states.status().state === "Connected" ? { state: "Disconnected", cause } : { cause })
      this.#unreachable(cause)
      this.#requests.again(codeOf("ConnectionLoss"))
    }
    this.#watches.lose()
  }

  /** Lets go of the handle, and ends the session at the servers. `run` must have ended. */
  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    const current = this.#current
    const key = this.#key
    return Effect.andThen(
      current === undefined ? Effect.void : this.#leave(current),
      key === undefined ? Effect.void : endSession(this.#known, key, endMillis)
    )
  })
}

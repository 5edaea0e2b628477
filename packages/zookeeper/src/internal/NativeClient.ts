/** One handle of the native client: a connection, made again within its session for as long as the handle lives. */
import * as Redacted from "effect/Redacted"
import type { Acl, CreateMode, Stat, WatchEvent } from "../Session.ts"
import type { Addon, AddonHandle, AddonStat } from "./addon.ts"
import { codeOf } from "./codes.ts"
import type { Answer } from "./Requests.ts"

/** What was shown to the servers of whoever uses a session. */
export interface Credentials {
  readonly scheme: string
  readonly credentials: Redacted.Redacted
}

/** What names a session, and proves that it is ours. */
export interface SessionKey {
  readonly id: string
  readonly password: string
}

/** What a handle is opened with. */
export interface NativeClientOptions {
  /** Addresses, no names: the handle would resolve names with a call that blocks the process. */
  readonly addresses: ReadonlyArray<{ readonly address: string; readonly port: number }>
  readonly sessionTimeoutMillis: number
  /** The session to go on with, if any. */
  readonly session: SessionKey | undefined
  readonly auth: ReadonlyArray<Credentials>
}

/** What a handle tells. */
export interface NativeClientEvents {
  /** Connected, first or again. */
  readonly connected: () => void
  /** The connection, or an attempt to make one, has failed. */
  readonly disconnected: () => void
  /** The handle is dead: -112, its session has expired; -113, credentials were refused. */
  readonly closed: (code: number) => void
  readonly watch: (event: WatchEvent, path: string) => void
  /** What a callback of ours has thrown. It ends here: what the addon's callbacks throw ends the process. */
  readonly defect: (defect: unknown) => void
}

const watchEvents: ReadonlyMap<string, WatchEvent> = new Map([
  ["created", "Created"],
  ["deleted", "Deleted"],
  ["changed", "DataChanged"],
  ["child", "ChildrenChanged"]
])

const flags: Readonly<Record<CreateMode, number>> = {
  persistent: 0,
  ephemeral: 1,
  persistentSequential: 2,
  ephemeralSequential: 3
}

/** By ZooKeeper's bits, from the lowest. */
const permissions = "rwcda"

/** Any version. */
const anyVersion = -1

/**
 * What the addon takes for the number of reads in a row that ended in the middle of an answer before it calls the session expired: an answer that comes
 * in more pieces than its 10 is no reason.
 */
const responseCounterLimit = 2 ** 31 - 1

const statOf = (stat: AddonStat): Stat => ({
  version: stat.version,
  childrenVersion: stat.cversion,
  aclVersion: stat.aversion,
  created: stat.ctime.getTime(),
  modified: stat.mtime.getTime(),
  createdZxid: stat.czxid,
  modifiedZxid: stat.mzxid,
  childrenZxid: stat.pzxid,
  dataLength: stat.dataLength,
  childCount: stat.numChildren,
  owner: stat.ephemeralOwner === "0" ? undefined : stat.ephemeralOwner
})

const bufferOf = (data: Uint8Array): Buffer => Buffer.from(data.buffer, data.byteOffset, data.byteLength)

/** The state of a handle that has dropped its connection in the middle of a call. */
const dropped = 999

/**
 * A handle, from `init` to `close`.
 *
 * The addon has its sockets watched by the event loop, and closes them without telling it. Two things would then end the process, or take
 * a socket of somebody else's from the loop, who is given the same number: a connection that is made in a callback of the addon, before it has
 * put things right; and a request that cannot be sent, at which the socket is closed on the spot. So what the addon tells is told when it
 * has returned, and a handle whose socket a request has closed is closed at once.
 */
export class NativeClient {
  readonly #handle: AddonHandle
  readonly #defect: (defect: unknown) => void
  readonly #closed: (code: number) => void
  /** Whether anybody is to hear of it. */
  #open = true
  /** Whether the handle can be called. */
  #alive = true
  /** What the addon has told and nobody has heard yet. */
  #told: Array<() => void> = []

  constructor(Addon: Addon, options: NativeClientOptions, events: NativeClientEvents) {
    this.#defect = events.defect
    this.#handle = new Addon({
      // An IPv6 address goes without brackets: the last colon is the port's.
      connect: options.addresses.map(({ address, port }) => `${address}:${port}`).join(","),
      timeout: options.sessionTimeoutMillis,
      debug_level: 0,
      // The order is the caller's, who knows which server was tried last.
      host_order_deterministic: 1,
      response_counter_limit: responseCounterLimit,
      ...(options.session === undefined
        ? {}
        : { client_id: options.session.id, client_password: options.session.password })
    })
    const on = (event: string, listener: (argument: unknown) => void) =>
      this.#handle.on(event, this.#later((_handle, argument) => this.#open ? listener(argument) : undefined))
    on("connect", events.connected)
    on("connecting", events.disconnected)
    this.#handle.on("close", () => {
      this.#alive = false
    })
    this.#closed = (code) => {
      this.#open = false
      events.closed(code)
    }
    on("close", (code) => this.#closed(code as number))
    for (const [name, event] of watchEvents) on(name, (path) => events.watch(event, path as string))
    try {
      this.#handle.init({})
      // The addon's own word for it, which its wrapper drops.
      if (this.#alive && this.#handle.timeout < 0) throw new Error("the native client cannot be made")
      for (const { credentials, scheme } of options.auth) {
        // One that is refused closes the handle.
        this.#handle.add_auth(scheme, Redacted.value(credentials) as string, () => {})
      }
    } catch (thrown) {
      // Nobody has it, and it would connect, and keep the process.
      this.#alive &&= this.#handle.timeout >= 0
      this.close()
      throw thrown
    }
  }

  /** Neither connected nor about to be: the attempt has failed, and another one is made in a third of the session timeout, or never. */
  get idle(): boolean {
    return this.#handle.state === 0
  }

  /** The session, once there is one. */
  get session(): SessionKey {
    return { id: this.#handle.client_id, password: this.#handle.client_password }
  }

  /** Ends the handle, and leaves the session. */
  close(): void {
    this.#open = false
    if (!this.#alive) return
    // The client would end the session, and hold up the process until the server has answered. But a connection to a server that is not
    // on the list is dropped on the spot, and a handle without one is closed on the spot. The address is nobody's (RFC 5737), and never connected to.
    this.#handle.set_servers("192.0.2.1:1")
    this.#handle.close()
  }

  /** A callback for the addon: what it is told is heard when the addon has returned, in the same order. */
  #later<Args extends ReadonlyArray<unknown>>(f: (...args: Args) => void): (...args: Args) => void {
    return (...args) => {
      if (this.#told.push(() => f(...args)) === 1) setImmediate(this.#tell)
    }
  }

  readonly #tell = (): void => {
    const told = this.#told
    this.#told = []
    for (const heard of told) {
      try {
        heard()
      } catch (thrown) {
        this.#defect(thrown)
      }
    }
  }

  /** Sends; a code in place of an answer is the answer. */
  #send<A>(answer: Answer<A>, send: () => number): void {
    const code = this.#alive ? send() : codeOf("ConnectionLoss")
    if (code !== 0) answer(code)
    else if (this.#handle.state === dropped) {
      // Heard of before the requests that end with the handle.
      this.#later(() => this.#closed(codeOf("ConnectionLoss")))()
      this.#handle.close()
    }
  }

  get(
    path: string,
    watch: boolean,
    answer: Answer<{ readonly data: Uint8Array; readonly stat: Stat }>
  ): void {
    const done = this.#later((code: number, _error: string, stat: AddonStat, data: Buffer | null) =>
      code === 0 ? answer(0, { data: data ?? new Uint8Array(), stat: statOf(stat) }) : answer(code)
    )
    this.#send(answer, () => this.#handle.a_get(path, watch, done))
  }

  children(
    path: string,
    watch: boolean,
    answer: Answer<{ readonly children: ReadonlyArray<string>; readonly stat: Stat }>
  ): void {
    const done = this.#later((code: number, _error: string, children: ReadonlyArray<string>, stat: AddonStat) =>
      code === 0 ? answer(0, { children, stat: statOf(stat) }) : answer(code)
    )
    this.#send(answer, () => this.#handle.a_get_children2(path, watch, done))
  }

  /** A node that is not there is the code -101. */
  exists(path: string, watch: boolean, answer: Answer<Stat>): void {
    const done = this.#later((code: number, _error: string, stat: AddonStat) =>
      code === 0 ? answer(0, statOf(stat)) : answer(code)
    )
    this.#send(answer, () => this.#handle.a_exists(path, watch, done))
  }

  /** Anybody may do anything with the node. */
  create(path: string, data: Uint8Array, mode: CreateMode, answer: Answer<string>): void {
    const done = this.#later((code: number, _error: string, made: string) =>
      code === 0 ? answer(0, made) : answer(code)
    )
    this.#send(answer, () => this.#handle.a_create(path, bufferOf(data), flags[mode], done))
  }

  set(path: string, data: Uint8Array, version: number | undefined, answer: Answer<Stat>): void {
    const done = this.#later((code: number, _error: string, stat: AddonStat) =>
      code === 0 ? answer(0, statOf(stat)) : answer(code)
    )
    this.#send(answer, () => this.#handle.a_set(path, bufferOf(data), version ?? anyVersion, done))
  }

  delete(path: string, version: number | undefined, answer: Answer<void>): void {
    const done = this.#later((code: number) => code === 0 ? answer(0, undefined) : answer(code))
    this.#send(answer, () => this.#handle.a_delete_(path, version ?? anyVersion, done))
  }

  setAcl(path: string, acl: ReadonlyArray<Acl>, version: number | undefined, answer: Answer<void>): void {
    const done = this.#later((code: number) => code === 0 ? answer(0, undefined) : answer(code))
    const entries = acl.map(({ id, permissions: letters, scheme }) => ({
      scheme,
      auth: id,
      perms: [...letters].reduce((bits, letter) => bits | (1 << permissions.indexOf(letter)), 0)
    }))
    this.#send(answer, () => this.#handle.a_set_acl(path, version ?? anyVersion, entries, done))
  }

  /** Shows credentials, now and after each reconnect; what is refused closes the handle, and `confirm` tells that it was not. */
  auth(scheme: string, credentials: Redacted.Redacted, answer: Answer<void>): void {
    this.#send(answer, () => this.#handle.add_auth(scheme, Redacted.value(credentials) as string, () => {}))
  }

  /**
   * The servers have taken all credentials that were shown: they answer in order. It also sends the credentials, which would otherwise stay in their
   * queue for up to a third of the session timeout.
   */
  confirm(answer: Answer<void>): void {
    // Whatever the servers say of the node, they say it after they took the credentials.
    const answered = (code: number) => code === 0 || code === codeOf("NoNode") || code === codeOf("NoAuth")
    const done = this.#later((code: number) => answered(code) ? answer(0, undefined) : answer(code))
    this.#send(answer, () => this.#handle.a_exists("/", false, done))
  }

  sync(path: string, answer: Answer<void>): void {
    const done = this.#later((code: number) => code === 0 ? answer(0, undefined) : answer(code))
    this.#send(answer, () => this.#handle.a_sync(path, done))
  }
}

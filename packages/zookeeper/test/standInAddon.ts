/** A stand-in for the native client, whose handles a test steers; and a session over it. */
import { Context, Effect, Layer, Logger } from "effect"
import { EventEmitter } from "node:events"
import type { Addon, AddonHandle } from "../src/internal/addon.ts"
import type { NativeSessionOptions } from "../src/internal/Handles.ts"
import * as NativeSession from "../src/internal/NativeSession.ts"

/** An operation that was sent. */
export interface Sent {
  readonly operation: string
  readonly path: string
  /** Gives it its code, and what else its callback takes. */
  readonly answer: (code: number, ...results: ReadonlyArray<unknown>) => void
}

/** Is called when a handle begins to connect. `false`: there is nothing to make it of. */
export type Began = (handle: Handle) => unknown

/** A handle. At first it tries to connect, and goes on trying. */
export class Handle extends EventEmitter implements AddonHandle {
  state = 1
  timeout = -1
  client_id = "1"
  client_password = "0".repeat(32)
  readonly connect: string
  readonly sent: Array<Sent> = []
  closed = false
  readonly #began: Began

  constructor(config: Readonly<Record<string, string | number>>, began: Began) {
    super()
    this.connect = String(config["connect"])
    this.#began = began
  }

  init() {
    if (this.#began(this) !== false) this.timeout = 1000
  }
  close() {
    this.closed = true
    this.timeout = -1
    this.state = 0
    this.emit("close", this, 0)
  }
  set_servers() {
    return 0
  }
  /** It is connected, first or again. */
  connected() {
    this.state = 3
    this.emit("connect", this)
  }
  /** The connection is lost, and another one is tried. */
  lost() {
    this.state = 1
    this.emit("connecting", this)
  }
  #send(operation: string, path: string, done: (...outcome: Array<never>) => void): number {
    const answer = (code: number, ...results: ReadonlyArray<unknown>) => done(...[code, "", ...results] as Array<never>)
    this.sent.push({ operation, path, answer })
    return 0
  }
  a_get: AddonHandle["a_get"] = (path, _watch, done) => this.#send("get", path, done)
  a_get_children2: AddonHandle["a_get_children2"] = (path, _watch, done) => this.#send("children", path, done)
  a_exists: AddonHandle["a_exists"] = (path, _watch, done) => this.#send("exists", path, done)
  a_create: AddonHandle["a_create"] = (path, _data, _flags, done) => this.#send("create", path, done)
  a_set: AddonHandle["a_set"] = (path, _data, _version, done) => this.#send("set", path, done)
  a_delete_: AddonHandle["a_delete_"] = (path, _version, done) => this.#send("delete", path, done)
  a_set_acl: AddonHandle["a_set_acl"] = (path, _version, _acl, done) => this.#send("setAcl", path, done)
  add_auth: AddonHandle["add_auth"] = (_scheme, _credentials, done) => this.#send("auth", "", done)
  a_sync: AddonHandle["a_sync"] = (path, done) => this.#send("sync", path, done)
}

/** An addon, and the handles that were made of it, the newest last. */
export const standIn = (began: Began = () => {}) => {
  const handles: Array<Handle> = []
  class Made extends Handle {
    constructor(config: Readonly<Record<string, string | number>>) {
      super(config, began)
      handles.push(this)
    }
  }
  return { addon: Made satisfies Addon, handles, last: () => handles.at(-1)! }
}

/** A session with a server at which nobody listens: what ends it ends at once. */
export const session = (options: Partial<NativeSessionOptions> & Pick<NativeSessionOptions, "addon">) =>
  NativeSession.make({
    connect: "zk1:1",
    hosts: [{ host: "zk1", port: 1 }],
    sessionTimeoutMillis: 10_000,
    connectTimeoutMillis: 5000,
    auth: [],
    lookup: () => Effect.succeed(["127.0.0.1"]),
    ...options
  })

/** Lets happen what is due: callbacks of the addon are heard in another turn of the event loop. */
export const turns = Effect.gen(function*() {
  for (let turn = 0; turn < 5; turn++) {
    yield* Effect.promise(() => new Promise<void>((resolve) => setImmediate(resolve)))
    for (let step = 0; step < 20; step++) yield* Effect.yieldNow
  }
})

/** What was logged, as `Level text {annotations}`. */
export class Lines extends Context.Service<Lines, Array<string>>()("test/Lines") {}

/** Keeps what is logged. */
export const LinesLive = Layer.unwrap(Effect.sync(() => {
  const lines: Array<string> = []
  const logger = Logger.make((options) => {
    const { annotations, level, message } = Logger.formatStructured.log(options)
    lines.push(`${level} ${[message].flat().map(String).join(" ")} ${JSON.stringify(annotations)}`)
  })
  return Layer.merge(Logger.layer([logger]), Layer.succeed(Lines, lines))
}))

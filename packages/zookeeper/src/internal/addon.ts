/** Loads the native client: when a session is made, and not before, so that whoever makes none needs none. */
import { ResolverFailed } from "@scales-rpc/core"
import * as Effect from "effect/Effect"

/** Facts of a node, as the addon gives them. */
export interface AddonStat {
  readonly czxid: number
  readonly mzxid: number
  readonly pzxid: number
  readonly dataLength: number
  readonly numChildren: number
  readonly version: number
  readonly cversion: number
  readonly aversion: number
  readonly ctime: Date
  readonly mtime: Date
  readonly ephemeralOwner: string
}

/** An entry of an access list, as the addon takes it. */
export interface AddonAcl {
  readonly perms: number
  readonly scheme: string
  readonly auth: string
}

/**
 * A connection to ZooKeeper, and what of it is safe to use. Methods give a code: other than 0, nothing was sent and the callback never comes.
 *
 * Not `a_get_acl`, which ends the process when there is none to get; nor the methods that take a watcher (`aw_get`), whose watchers leak,
 * and end the process when they are called for a handle that is gone.
 */
export interface AddonHandle {
  readonly state: number
  /** -1 where there is no client behind it: it could not be made, or is closed. */
  readonly timeout: number
  readonly client_id: string
  readonly client_password: string
  on(event: string, listener: (handle: unknown, argument: unknown) => void): unknown
  init(options: Record<string, never>): unknown
  close(): unknown
  set_servers(servers: string): number
  a_get(
    path: string,
    watch: boolean,
    done: (code: number, error: string, stat: AddonStat, data: Buffer | null) => void
  ): number
  a_get_children2(
    path: string,
    watch: boolean,
    done: (code: number, error: string, children: ReadonlyArray<string>, stat: AddonStat) => void
  ): number
  a_exists(path: string, watch: boolean, done: (code: number, error: string, stat: AddonStat) => void): number
  a_create(path: string, data: Buffer, flags: number, done: (code: number, error: string, path: string) => void): number
  a_set(
    path: string,
    data: Buffer,
    version: number,
    done: (code: number, error: string, stat: AddonStat) => void
  ): number
  a_delete_(path: string, version: number, done: (code: number, error: string) => void): number
  a_set_acl(
    path: string,
    version: number,
    acl: ReadonlyArray<AddonAcl>,
    done: (code: number, error: string) => void
  ): number
  add_auth(scheme: string, credentials: string, done: (code: number, error: string) => void): number
  a_sync(path: string, done: (code: number, error: string) => void): number
}

/** Makes handles. */
export type Addon = new(config: Readonly<Record<string, string | number>>) => AddonHandle

const name = "zookeeper"

/** What a failed import means to whoever installs. */
const whatIsWrong = (cause: unknown): string => {
  const { code = "", message = "" } = (cause ?? {}) as { readonly code?: unknown; readonly message?: unknown }
  const absent = (code === "ERR_MODULE_NOT_FOUND" || code === "MODULE_NOT_FOUND") &&
    String(message).includes(`'${name}'`)
  return absent
    ? `zk:// needs the package ${name}, which is not installed: npm install ${name}`
    : `the native part of the package ${name} does not load in Node ${process.versions.node} (${process.platform}-${process.arch}), ` +
      `most often because it was built for another Node: npm rebuild ${name} (needs python3, make and a C++ compiler)`
}

/** The addon. Fails with `ResolverFailed`, which names `uri` and says what to do. `load` is for tests. */
export const loadAddon = (
  uri: string,
  load: () => Promise<unknown> = () => import(/* @vite-ignore */ name)
): Effect.Effect<Addon, ResolverFailed> =>
  Effect.map(
    Effect.tryPromise({
      try: load,
      catch: (cause) => new ResolverFailed({ uri, what: whatIsWrong(cause), cause })
    }),
    (module) => (module as { readonly default: Addon }).default
  )

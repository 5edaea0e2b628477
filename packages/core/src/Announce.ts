/** Telling a server set of an endpoint for as long as a scope is open, by the set's URI. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Endpoint } from "./Endpoint.ts"
import { announcerPrefix, implementation } from "./internal/schemes.ts"
import type { BuildError } from "./RpcError.ts"

/** What a member of a server set says of itself; clients call those that are `"ALIVE"`. The words are Finagle's. */
export type MemberStatus = "DEAD" | "STARTING" | "ALIVE" | "STOPPING" | "STOPPED" | "WARNING"

/** What is said of an announced endpoint beyond its address. */
export interface AnnounceOptions {
  /** Default `"ALIVE"`. */
  readonly status?: MemberStatus | undefined
  /** The shard it serves, a whole number from 0. Default: none. */
  readonly shard?: number | undefined
  /** Other endpoints of the same process, by name: `zk://...#name` finds them. Default: none. */
  readonly additionalEndpoints?: Readonly<Record<string, Endpoint>> | undefined
  /** Values for whoever reads the set. Default: none. */
  readonly metadata?: Readonly<Record<string, string>> | undefined
}

/**
 * Where an announcement stands. `Pending`: the set does not show it yet, or no longer, and that is being changed; `cause` is what the last
 * attempt met. `Announced`: it does, under `name`.
 */
export type AnnouncementState =
  | { readonly _tag: "Pending"; readonly cause: unknown }
  | { readonly _tag: "Announced"; readonly name: string }

/** An endpoint that is announced until the scope closes, whatever happens to the connection in between. */
export interface Announcement {
  /** Waits until the set shows it for the first time. */
  readonly announced: Effect.Effect<void>
  /** Now. */
  readonly state: () => AnnouncementState
  /**
   * Says other things of the endpoint from now on, such as the status `"STOPPING"` before a drain. It replaces all that was said before, and
   * returns when the set shows it. Fails with `InvalidOption`.
   */
  readonly update: (options: AnnounceOptions) => Effect.Effect<void, BuildError>
}

/** Announces endpoints at URIs of one scheme. */
export interface Announcer {
  /** `rest` is the URI without `scheme://`. It does not wait for the registry; what it started ends with the scope. */
  readonly announce: (
    uri: string,
    rest: string,
    endpoint: Endpoint,
    options: AnnounceOptions
  ) => Effect.Effect<Announcement, BuildError, Scope.Scope>
}

/** The key under which the announcer of a scheme is provided. */
export const AnnouncerFor = <const Scheme extends string>(
  scheme: Scheme
): Context.Service<`Announcer/${Scheme}`, Announcer> => Context.Service(`${announcerPrefix}${scheme.toLowerCase()}`)

/** `ServerSet.announce`. */
export const announce = (
  uri: string,
  endpoint: Endpoint,
  options: AnnounceOptions
): Effect.Effect<Announcement, BuildError, Scope.Scope> =>
  Effect.flatMap(
    implementation<Announcer>(uri, announcerPrefix, new Map()),
    ({ found, rest }) => found.announce(uri, rest, endpoint, options)
  )

/** A handle in use: what is known of its connections, and when it is of no use any more. */
import type { Addresses } from "./addresses.ts"
import type { NativeClient } from "./NativeClient.ts"

/** A connection that held for less is no success, in milliseconds. */
const shortMillis = 1_000

/** After so many short connections in a row the handle is given up, with whatever it says at each that ends them. */
const shortConnections = 5

/** Why a handle is of no use any more. */
export type Ended =
  | { readonly _tag: "Expired" }
  | { readonly _tag: "Refused" }
  | { readonly _tag: "Stuck"; readonly cause: Error }

/** A handle in use, and what is known of it. */
export interface Current {
  readonly client: NativeClient
  readonly addresses: Addresses
  /** When it was opened, connected or disconnected, in milliseconds that no clock is set back in. */
  since: number
  connected: boolean
  wasConnected: boolean
  /** Short connections in a row. */
  short: number
  /** Credentials are being shown which the servers may refuse: each asks whether they did. */
  readonly showing: Set<() => void>
  ended: Ended | undefined
}

/** Its connection was lost. */
export const lost = (current: Current, now: number): void => {
  current.connected = false
  current.short = now - current.since < shortMillis ? current.short + 1 : 0
  current.since = now
}

/** What nobody tells: that nothing comes of it. */
export const stuck = (current: Current, now: number, connectTimeoutMillis: number): Ended | undefined => {
  const ended = (what: string): Ended => ({ _tag: "Stuck", cause: new Error(what) })
  if (current.connected) return undefined
  if (current.short >= shortConnections) return ended("each connection broke at once")
  if (now - current.since >= connectTimeoutMillis) return ended("no connection in time")
  // Nothing is lost with a handle that was never connected, and one whose first attempt was refused may never make another.
  return !current.wasConnected && current.client.idle ? ended("the connection was refused") : undefined
}

/** How `dns://` and `srv://` server sets are resolved: the settings of both, for everything that they are provided to. */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"

/** What may be set; each has a default. */
export interface DnsOptions {
  /**
   * The DNS servers that are asked, in their order, as `"address"` or `"address:port"` (`"[::1]:53"`), port 53 unless given. Default: the system's,
   * read again for each resolution. With servers of one's own, what only the system knows (`/etc/hosts`, search domains) is not looked up,
   * except for `localhost`, which no DNS server is ever asked for.
   */
  readonly servers?: ReadonlyArray<string> | undefined
  /**
   * Which addresses of a name are endpoints. Default: those of the families that this machine has an address of itself, beyond
   * loopback and link-local ones, so that a machine without IPv6 does not count each server twice; both when it has neither.
   */
  readonly families?: "ipv4" | "ipv6" | "both" | undefined
  /**
   * How long an answer holds that comes without a TTL: the records of a service, no such name, and what `/etc/hosts` says. At least 1
   * second. Default 10 seconds.
   */
  readonly interval?: Duration.Input | undefined
}

/**
 * The settings in force, read when a URI is resolved: `Layer.succeed(DnsSettings, { servers: ["10.0.0.2"] })` provided to a client's layer sets
 * them for it. A wrong one fails the build with `InvalidOption`.
 */
export const DnsSettings: Context.Reference<DnsOptions> = Context.Reference<DnsOptions>(
  "@scales-rpc/core/DnsSettings",
  { defaultValue: () => ({}) }
)

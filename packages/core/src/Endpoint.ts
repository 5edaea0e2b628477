/** One address that calls can be sent to, and what is known of it. Its identity is where it is: host and port. */

/** Values that a resolver attaches to an endpoint, such as a ZooKeeper member's name. */
export type Metadata = Readonly<Record<string, string>>

/** An endpoint of a server set. Two with one `key` are the same endpoint: a new weight or shard updates it in place. */
export interface Endpoint {
  /** `host:port`, `[v6]:port`, or `unix:/path`. */
  readonly key: string
  /** A name, an IPv4 or an IPv6 address without brackets, or the path of a Unix socket. */
  readonly host: string
  /** 1 to 65535; 0 for a Unix socket. */
  readonly port: number
  /** Share of the load against other endpoints, above 0. Default 1. */
  readonly weight: number
  /** The shard it serves, when the server set knows. */
  readonly shard: number | undefined
  readonly metadata: Metadata
}

const none: Metadata = {}

/** A weight that is none would break the order of every balancer. */
const weightOf = (options: EndpointOptions | undefined): number => {
  const weight = options?.weight ?? 1
  if (weight >= 1e-6 && weight <= 1e6) return weight
  throw new RangeError(`weight ${weight}: expected a number from 0.000001 to 1000000`)
}

/** What may be said of an endpoint beyond its address. */
export interface EndpointOptions {
  /** From a millionth to a million: with more between two, sums of weights would lose one. Default 1. */
  readonly weight?: number | undefined
  /** Default: not known. */
  readonly shard?: number | undefined
  /** Default: none. */
  readonly metadata?: Metadata | undefined
}

/** An endpoint reached over TCP. Throws a `RangeError` for a port or a weight that is none. */
const tcp = (host: string, port: number, options?: EndpointOptions): Endpoint => {
  if (!(Number.isInteger(port) && port >= 1 && port <= 65_535)) {
    throw new RangeError(`port ${port} of ${host}: expected a whole number from 1 to 65535`)
  }
  return {
    key: host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`,
    host,
    port,
    weight: weightOf(options),
    shard: options?.shard,
    metadata: options?.metadata ?? none
  }
}

/** An endpoint reached over a Unix socket. */
const unix = (path: string, options?: EndpointOptions): Endpoint => ({
  key: `unix:${path}`,
  host: path,
  port: 0,
  weight: weightOf(options),
  shard: options?.shard,
  metadata: options?.metadata ?? none
})

/** Whether an endpoint is a Unix socket. */
const isUnix = (endpoint: Endpoint): boolean => endpoint.key.startsWith("unix:")

/** Makes endpoints. */
export const Endpoint = { tcp, unix, isUnix }

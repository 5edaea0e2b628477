/** Which clients there are, the server that each calls, and with which others it is measured. */
import { Protocols } from "@scales-rpc/thrift"
import * as floor from "./clients/floor.ts"
import * as ours from "./clients/ours.ts"
import * as http from "./clients/http.ts"
import * as thriftNpm from "./clients/thriftNpm.ts"
import * as undici from "./clients/undici.ts"
import type { Client } from "./Load.ts"
import * as framed from "./servers/framed.ts"
import * as httpServers from "./servers/http.ts"
import * as mux from "./servers/mux.ts"
import type { Server } from "./servers/Server.ts"
import * as thriftNpmServer from "./servers/thriftNpm.ts"

/** The servers by name. */
export const servers = {
  mux: mux.start,
  thriftNpm: thriftNpmServer.start,
  framed: framed.start,
  http: httpServers.start
} satisfies Record<string, () => Promise<Server>>

/** The name of a server. */
export type ServerName = keyof typeof servers

/**
 * Clients that are measured by turns, each at every number of calls in flight: those over mux and what they are compared with, those of
 * framed Thrift with the same number of connections, and those of HTTP, each of one server and of four.
 */
export const groups = {
  mux: { levels: [1, 64] },
  framed: { levels: [1, 8, 64] },
  http: { levels: [1, 64] }
} as const

/** The name of a group. */
export type GroupName = keyof typeof groups

/** The names, in the order in which they are measured. */
export const groupNames = Object.keys(groups) as ReadonlyArray<GroupName>

/** Calls in flight. */
export type Level = (typeof groups)[GroupName]["levels"][number]

/** One client as the benchmark knows it. */
interface Peer {
  readonly title: string
  readonly group: GroupName
  readonly server: ServerName
  /** How many of those that its server is. */
  readonly servers: number
  /** To all of them; `undefined`: as many as there are calls in flight. */
  readonly connections: number | undefined
  readonly connect: (port: number, ...others: ReadonlyArray<number>) => Promise<Client>
}

const overMux = (title: string, connect: Peer["connect"], server: ServerName = "mux"): Peer => ({
  title,
  group: "mux",
  server,
  servers: 1,
  connections: 1,
  connect
})

const oursFramed = (protocol: "binary" | "compact", connections: number): Peer => ({
  title: `ours, framed ${protocol}`,
  group: "framed",
  server: "framed",
  servers: 1,
  connections,
  connect: ours.connectFramed(Protocols[protocol], connections)
})

const npmFramed = (protocol: "binary" | "compact", connections: number): Peer => ({
  title: `npm thrift, framed ${protocol}`,
  group: "framed",
  server: "framed",
  servers: 1,
  connections,
  connect: thriftNpm.connectBy(protocol, connections)
})

const overHttp = (title: string, servers: number, connect: Peer["connect"]): Peer => ({
  title,
  group: "http",
  server: "http",
  servers,
  connections: undefined,
  connect
})

/** The clients by name, in the order in which they are measured. */
export const clients = {
  floor: overMux("mux by hand", floor.connect),
  ours: overMux("ours, fibers", ours.connect),
  oursPromise: overMux("ours, promises", ours.connectByPromise),
  thriftNpm: overMux("npm thrift, framed", thriftNpm.connect, "thriftNpm"),
  oursBinary1: oursFramed("binary", 1),
  npmBinary1: npmFramed("binary", 1),
  oursBinary8: oursFramed("binary", 8),
  npmBinary8: npmFramed("binary", 8),
  oursCompact1: oursFramed("compact", 1),
  npmCompact1: npmFramed("compact", 1),
  oursCompact8: oursFramed("compact", 8),
  npmCompact8: npmFramed("compact", 8),
  undici: overHttp("pools of undici", 1, undici.connect),
  oursHttp: overHttp("ours, Http", 1, http.connect),
  effectHttp: overHttp("Effect's HttpClient on undici", 1, undici.connectEffect),
  oursBalancedHttp: overHttp("ours, BalancedHttpClient", 1, http.connectBalanced),
  undiciFour: overHttp("pools of undici", 4, undici.connect),
  oursHttpFour: overHttp("ours, Http", 4, http.connect),
  effectHttpFour: overHttp("Effect's HttpClient on undici", 4, undici.connectEffect),
  oursBalancedHttpFour: overHttp("ours, BalancedHttpClient", 4, http.connectBalanced)
} satisfies Record<string, Peer>

/** The name of a client. */
export type ClientName = keyof typeof clients

/** The names, in order. */
export const clientNames = Object.keys(clients) as ReadonlyArray<ClientName>

/** The names of a group's, in order. */
export const membersOf = (group: GroupName): ReadonlyArray<ClientName> =>
  clientNames.filter((name) => clients[name].group === group)

/** The numbers of calls in flight that a client is measured with. */
export const levelsOf = (name: ClientName): ReadonlyArray<Level> => groups[clients[name].group].levels

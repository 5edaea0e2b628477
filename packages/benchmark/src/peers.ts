/** Which clients there are, what each is made of, and the server that each calls. */
import { Protocols } from "@scales-rpc/thrift"
import { finagle, finagleQuiet, type Foreign, scalesPython } from "./foreign.ts"
import type { Client } from "./Load.ts"
import type { Server } from "./servers/Server.ts"

type Listen = (count: number) => Promise<Server>

/** The servers by name, each to be started as often as asked for in one process; a child loads none but its own. */
export const servers = {
  mux: async (count) => (await import("./servers/mux.ts")).start(count),
  framed: async () => (await import("./servers/framed.ts")).start(),
  http: async (count) => (await import("./servers/http.ts")).start(count),
  thriftNpm: async () => (await import("./servers/thriftNpm.ts")).start(),
  grpc: async () => (await import("./servers/grpc.ts")).start(),
  effectRpc: async () => (await import("./servers/effectRpc.ts")).start()
} satisfies Record<string, Listen>

/** The name of a server. */
export type ServerName = keyof typeof servers

type Connect = (port: number, ...others: ReadonlyArray<number>) => Promise<Client>

/** One client as the benchmark knows it. */
interface Peer {
  readonly title: string
  readonly server: ServerName
  /** How many of those that its server is, unless a scene has more. */
  readonly servers: number
  /** To each of them; `undefined`: as many as there are calls in flight. */
  readonly connections: number | undefined
}

/** One that is in Node. */
interface NodePeer extends Peer {
  readonly connect: Connect
}

/** One that is not. */
interface ForeignPeer extends Peer, Foreign {
  /** Whether a compiler works while it runs, and takes its time: it calls until it is steady before anything is looked at. */
  readonly compiles: boolean
}

const overMux = (title: string, connect: Connect, server: ServerName = "mux"): NodePeer => ({
  title,
  server,
  servers: 1,
  connections: 1,
  connect
})

const framed = (title: string, connections: number, connect: Connect): NodePeer => ({
  title,
  server: "framed",
  servers: 1,
  connections,
  connect
})

type FramedProtocol = "binary" | "compact"

const oursFramed = (protocol: FramedProtocol, connections: number): NodePeer =>
  framed(
    `ours, framed ${protocol}`,
    connections,
    async (port) => (await import("./clients/ours.ts")).connectFramed(Protocols[protocol], connections)(port)
  )

const npmFramed = (protocol: FramedProtocol, connections: number): NodePeer =>
  framed(
    `npm thrift, framed ${protocol}`,
    connections,
    async (port) => (await import("./clients/thriftNpm.ts")).connectBy(protocol, connections)(port)
  )

const overHttp = (title: string, servers: number, connect: Connect): NodePeer => ({
  title,
  server: "http",
  servers,
  connections: undefined,
  connect
})

const undici: Connect = async (...ports) => (await import("./clients/undici.ts")).connect(...ports)
const effectHttp: Connect = async (...ports) => (await import("./clients/undici.ts")).connectEffect(...ports)
const oursHttp: Connect = async (...ports) => (await import("./clients/http.ts")).connect(...ports)
const oursBalancedHttp: Connect = async (...ports) => (await import("./clients/http.ts")).connectBalanced(...ports)

/** The clients in Node by name; a child loads none but its own. */
export const nodeClients = {
  floor: overMux("mux by hand", async (...ports) => (await import("./clients/floor.ts")).connect(...ports)),
  ours: overMux("ours, fibers", async (...ports) => (await import("./clients/ours.ts")).connect(...ports)),
  oursPromise: overMux(
    "ours, promises",
    async (...ports) => (await import("./clients/ours.ts")).connectByPromise(...ports)
  ),
  oursQuiet: overMux(
    "ours, metrics off",
    async (...ports) => (await import("./clients/ours.ts")).connectQuiet(...ports)
  ),
  oursTraced: overMux(
    "ours, 1 % traced",
    async (...ports) => (await import("./clients/ours.ts")).connectTraced(...ports)
  ),
  thriftNpm: overMux(
    "npm thrift, framed",
    async (port) => (await import("./clients/thriftNpm.ts")).connect(port),
    "thriftNpm"
  ),
  grpcJs: overMux("grpc-js", async (port) => (await import("./clients/grpc.ts")).connect(port), "grpc"),
  effectRpc: overMux(
    "Effect's rpc over TCP",
    async (port) => (await import("./clients/effectRpc.ts")).connect(port),
    "effectRpc"
  ),
  undiciJson: overHttp(
    "undici, POST of JSON",
    1,
    async (...ports) => (await import("./clients/undici.ts")).connectJson(...ports)
  ),
  oursBinary1: oursFramed("binary", 1),
  npmBinary1: npmFramed("binary", 1),
  oursBinary8: oursFramed("binary", 8),
  npmBinary8: npmFramed("binary", 8),
  oursCompact1: oursFramed("compact", 1),
  npmCompact1: npmFramed("compact", 1),
  oursCompact8: oursFramed("compact", 8),
  npmCompact8: npmFramed("compact", 8),
  undici: overHttp("pools of undici", 1, undici),
  oursHttp: overHttp("ours, Http", 1, oursHttp),
  effectHttp: overHttp("Effect's HttpClient on undici", 1, effectHttp),
  oursBalancedHttp: overHttp("ours, BalancedHttpClient", 1, oursBalancedHttp),
  undiciFour: overHttp("pools of undici", 4, undici),
  oursHttpFour: overHttp("ours, Http", 4, oursHttp),
  effectHttpFour: overHttp("Effect's HttpClient on undici", 4, effectHttp),
  oursBalancedHttpFour: overHttp("ours, BalancedHttpClient", 4, oursBalancedHttp)
} satisfies Record<string, NodePeer>

/** The name of a client in Node. */
export type NodeClientName = keyof typeof nodeClients

const foreign = (title: string, compiles: boolean, { prepare, program }: Foreign): ForeignPeer => ({
  title,
  server: "mux",
  servers: 1,
  connections: 1,
  compiles,
  prepare,
  program
})

/** Those that are programs of other languages. */
export const foreignClients = {
  scalesPython: foreign("Scales in Python", false, scalesPython),
  finagle: foreign("Finagle on the JVM", true, finagle),
  finagleQuiet: foreign("Finagle, stats off", true, finagleQuiet)
} satisfies Record<string, ForeignPeer>

/** The name of a client in another language. */
export type ForeignClientName = keyof typeof foreignClients

/** The name of a client. */
export type ClientName = NodeClientName | ForeignClientName

/** All of them by name. */
export const clients: Readonly<Record<ClientName, Peer>> = { ...nodeClients, ...foreignClients }

/** The names of those in Node. */
export const nodeClientNames = Object.keys(nodeClients) as ReadonlyArray<NodeClientName>

/** The names of the others. */
export const foreignClientNames = Object.keys(foreignClients) as ReadonlyArray<ForeignClientName>

/** Whether a client is in Node. */
export const isNode = (name: ClientName): name is NodeClientName => name in nodeClients

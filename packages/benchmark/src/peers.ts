/** Which clients there are, and the server that each calls. */
import * as floor from "./clients/floor.ts"
import * as ours from "./clients/ours.ts"
import * as thriftNpm from "./clients/thriftNpm.ts"
import type { Client } from "./Load.ts"
import * as mux from "./servers/mux.ts"
import type { Server } from "./servers/Server.ts"
import * as thriftNpmServer from "./servers/thriftNpm.ts"

/** The servers by name. */
export const servers = {
  mux: mux.start,
  thriftNpm: thriftNpmServer.start
} satisfies Record<string, () => Promise<Server>>

/** The name of a server. */
export type ServerName = keyof typeof servers

/** One client as the benchmark knows it. */
interface Peer {
  readonly title: string
  readonly server: ServerName
  readonly connect: (port: number) => Promise<Client>
}

/** The clients by name, in the order in which they are measured. */
export const clients = {
  floor: { title: "mux by hand", server: "mux", connect: floor.connect },
  ours: { title: "ours, fibers", server: "mux", connect: ours.connect },
  oursPromise: { title: "ours, promises", server: "mux", connect: ours.connectByPromise },
  thriftNpm: { title: "npm thrift, framed", server: "thriftNpm", connect: thriftNpm.connect }
} satisfies Record<string, Peer>

/** The name of a client. */
export type ClientName = keyof typeof clients

/** The names, in order. */
export const clientNames = Object.keys(clients) as ReadonlyArray<ClientName>

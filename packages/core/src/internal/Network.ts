/** Where sockets come from: Node's, unless a test has put a network in memory in their place. */
import * as Context from "effect/Context"
import * as Net from "node:net"

/** What connections and listeners are made with, as `node:net` makes them. */
export interface Network {
  readonly connect: (options: Net.NetConnectOpts) => Net.Socket
  readonly createServer: (options: Net.ServerOpts, onConnection: (socket: Net.Socket) => void) => Net.Server
  /** Calls `f` once what has come by now has been read: in Node, in the next turn of the event loop, or in what is left of this one. */
  readonly turn: (f: () => void) => void
}

/** Read where a socket or a listener is made; its default is Node's own. */
export const Network: Context.Reference<Network> = Context.Reference<Network>("@scales-rpc/core/Network", {
  defaultValue: () => ({
    connect: (options) => Net.connect(options),
    createServer: Net.createServer,
    turn: (f) => void setImmediate(f)
  })
})

/** Mux servers in a process of their own, for measures that call them; with TLS in front of them, if it is asked for. */
import { Certificates } from "@scales-rpc/core/testing"
import * as Net from "node:net"
import * as Tls from "node:tls"
import { start } from "../servers/mux.ts"
import { listenMany } from "../servers/Server.ts"
import { answering, Isolated } from "./isolated.ts"

interface Task {
  readonly count: number
  readonly tls: boolean
}

/** Where the servers listen on 127.0.0.1, and the authority that a client of theirs is to trust, in PEM. */
export interface Servers {
  readonly ports: ReadonlyArray<number>
  readonly ca: string | undefined
}

/** Starts them. */
export const startServers = async (
  count: number,
  tls = false
): Promise<Servers & { readonly stop: () => Promise<void> }> => {
  const child = new Isolated<Task, Servers>(import.meta.url)
  return { ...await child.ask({ count, tls }), stop: () => child.stop() }
}

const serve = async ({ count, tls }: Task): Promise<Servers> => {
  const plain = await start(count)
  if (!tls) return { ports: plain.ports, ca: undefined }
  const authority = Certificates.authority()
  const { certificate, key } = authority.issue()
  const secure = await listenMany(count, () =>
    Tls.createServer({ cert: certificate, key }, (socket) => {
      const behind = Net.connect(plain.ports[0]!, "127.0.0.1")
      socket.pipe(behind).pipe(socket)
      // A client that is gone is no failure of the server.
      for (const each of [socket, behind]) each.on("error", () => {})
    }))
  return { ports: secure.ports, ca: authority.certificate }
}

answering(import.meta, serve)

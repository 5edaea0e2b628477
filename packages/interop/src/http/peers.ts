/** The peers that cases share. */
import * as Effect from "effect/Effect"
import { fileURLToPath } from "node:url"
import * as Finagle from "../Finagle.ts"
import * as Maven from "../Maven.ts"
import { start } from "../Peer.ts"
import * as SharedPeers from "../SharedPeers.ts"
import { execute, Missing } from "../Toolchain.ts"
import * as Nginx from "./nginx/serve.ts"

/** Whose servers they are. */
export type Vendor = "nginx" | "Node" | "Python" | "Finagle" | "by hand"

/** Makes sure that the servers of a vendor can be started. */
export const prepare = (vendor: Vendor) => {
  switch (vendor) {
    case "nginx":
      return Nginx.prepare
    case "Python":
      return Effect.flatMap(execute("python3", ["--version"]), ({ code }) =>
        code === 0
          ? Effect.void
          : Effect.fail(new Missing({ what: "no Python (`python3`) here; on Debian: apt-get install python3" })))
    case "Finagle":
      return Maven.prepare([Finagle.folder("mux24")])
    default:
      return Effect.void
  }
}

const addresses = (ports: Readonly<Record<string, number>>) =>
  Object.fromEntries(Object.entries(ports).map(([name, port]) => [name, `127.0.0.1:${port}`]))

/** Node's server: `http1` and `http2` are its addresses. */
const node = Effect.map(
  start({
    name: "Node's server",
    command: process.execPath,
    args: ["--conditions=@scales-rpc/source", fileURLToPath(new URL("node/server.ts", import.meta.url))],
    cwd: "."
  }),
  (peer) => ({ ...peer, ...addresses(peer.ready) as { readonly http1: string; readonly http2: string } })
)

/** Python's servers: of `files` over HTTP/1.0, and of `paths` over HTTP/1.1. */
const python = Effect.map(
  start({
    name: "Python's server",
    command: "python3",
    args: ["server.py"],
    cwd: fileURLToPath(new URL("../../http/python", import.meta.url)),
    env: { PYTHONDONTWRITEBYTECODE: "1" }
  }),
  ({ ready }) => addresses(ready) as { readonly files: string; readonly paths: string }
)

const programs = {
  node,
  python,
  nginx: Effect.flatMap(node, ({ http1 }) => Nginx.serve(http1)),
  finagle: Finagle.httpServer(),
  /** The other one where it takes two, and the one that is drained. */
  finagleToo: Finagle.httpServer()
}

/** The shared peers of one run. */
export type Peers = "@scales-rpc/interop/http/Peers"

export const { layer, shared } = SharedPeers.make("@scales-rpc/interop/http/Peers", programs)

/** The peers that cases share. */
import * as Effect from "effect/Effect"
import { fileURLToPath } from "node:url"
import * as Finagle from "../Finagle.ts"
import * as Maven from "../Maven.ts"
import { type Program, start } from "../Peer.ts"
import * as Python from "../Python.ts"
import * as SharedPeers from "../SharedPeers.ts"
import { fromFinagle } from "./echo.ts"
import { serve } from "./servers.ts"
import type { Way } from "./ways.ts"

/** A library of Apache's. */
export type Library = "Python" | "Java" | "npm"

const pythonPackages = ["thrift==0.24.0"]
const folders = {
  Python: fileURLToPath(new URL("../../thrift/python", import.meta.url)),
  Java: fileURLToPath(new URL("../../thrift/java", import.meta.url)),
  npm: fileURLToPath(new URL("npm", import.meta.url))
}

/** Makes sure that the programs on a library can be started. */
export const prepare = (library: Library | "Finagle") => {
  switch (library) {
    case "Finagle":
      return Maven.prepare([Finagle.folder("tm22")])
    case "Python":
      return Python.prepare(folders.Python, pythonPackages)
    case "Java":
      return Maven.prepare([folders.Java])
    case "npm":
      return Effect.void
  }
}

const program = (library: Library, role: "client" | "server"): Program => {
  const name = `${library} ${role}`
  switch (library) {
    case "Python":
      return Python.program(name, folders.Python, pythonPackages, [`${role}.py`])
    case "Java":
      return Maven.program(name, folders.Java, [role])
    case "npm":
      return {
        name,
        command: process.execPath,
        args: ["--conditions=@scales-rpc/source", `${role}.ts`],
        cwd: folders.npm
      }
  }
}

/** The servers on a library, one for each way. */
const server = (library: Library) =>
  Effect.map(start(program(library, "server")), ({ event, ready }) => ({
    port: ({ name }: Way): number => ready.ports[name],
    /** Of the one over HTTP, which Java has none of. */
    httpPort: (protocol: Way["protocol"]): number => ready.http[protocol],
    event
  }))

/** A client on a library. */
const client = (library: Library) =>
  Effect.map(start(program(library, "client")), ({ command }) => ({
    /** Calls every method of the server on a port, without `testUuid` when told so, and fails when an answer is wrong. */
    run: ({ protocol, sharing, transport }: Way, port: number, uuid: boolean) =>
      command(["run", protocol, transport, sharing, port, ...(uuid ? [] : ["without-uuid"])]),
    /** npm alone: many calls at once on one connection, each of which must get its own reply. */
    pipeline: ({ protocol, sharing, transport }: Way, port: number) =>
      command(["pipeline", protocol, transport, sharing, port])
  }))

const programs = {
  "Python server": server("Python"),
  "Python client": client("Python"),
  "Java server": server("Java"),
  "Java client": client("Java"),
  "npm server": server("npm"),
  "npm client": client("npm"),
  "Finagle server": Finagle.thriftServer(),
  /** With the server of ours that it calls. */
  "Finagle client": fromFinagle(),
  ours: serve
}

/** The shared peers of one run. */
export type Peers = "@scales-rpc/interop/thrift/Peers"

export const { layer, shared } = SharedPeers.make("@scales-rpc/interop/thrift/Peers", programs)

/**
 * The Thrift family: the service that Apache's libraries test each other with, on the libraries for Python, Java and npm, called by us,
 * over HTTP too, and calling us; and Finagle's plain Thrift.
 */
import * as Effect from "effect/Effect"
import * as Suite from "../Suite.ts"
import { finagle } from "./finagle.ts"
import { overHttp } from "./overHttp.ts"
import { layer, type Library, prepare } from "./peers.ts"
import { quirksOf } from "./quirks.ts"
import { theirClient } from "./theirClients.ts"
import { theirServer } from "./theirServers.ts"
import { tls } from "./tls.ts"

const casesOf = (library: Library) => [...theirServer(library), ...theirClient(library), ...quirksOf(library)]

/** The cases, by what they need. */
const groups = {
  Python: [...casesOf("Python"), ...overHttp("Python")],
  Java: casesOf("Java"),
  npm: [...casesOf("npm"), ...overHttp("npm")],
  Finagle: [...finagle, ...tls]
}

/** Runs the cases that `select` picks. */
export const run = (select: (name: string) => boolean, deadline: number): Effect.Effect<Suite.Tally> =>
  Effect.provide(Suite.runGroups("thrift", groups, prepare, select, deadline), layer)

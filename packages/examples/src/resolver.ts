/**
 * A scheme of one's own for server sets: `file:///etc/echo.endpoints` names the endpoints in a file, a `host:port` each line.
 * The file is read again and again, so a server set that moves is followed. Replace it whole, by renaming another: half of it
 * may be read otherwise.
 */
import { Endpoint, InvalidUri, ServerSet, ServerSetState } from "@scales-rpc/core"
import { Effect, Stream } from "effect"
import type { Duration } from "effect"
import { readFile } from "node:fs/promises"

const endpointOf = (line: string): Endpoint => {
  const colon = line.lastIndexOf(":")
  return Endpoint.tcp(line.slice(0, colon), Number(line.slice(colon + 1)))
}

/** What the file says now. A file that cannot be read is no empty set: clients keep the endpoints they have. */
const read = (path: string): Effect.Effect<ServerSetState> =>
  Effect.tryPromise(() => readFile(path, "utf8")).pipe(
    Effect.map((text) => ServerSetState.Bound(text.split("\n").filter((line) => line !== "").map(endpointOf))),
    Effect.catch((cause) => Effect.succeed(ServerSetState.Failed(cause)))
  )

/** Provide it to a client's layer, which then takes `file://` URIs. */
export const FileResolver = (interval: Duration.Input = "5 seconds") =>
  ServerSet.resolver("file", (uri, rest) =>
    rest.startsWith("/")
      ? Effect.succeed(Stream.mapEffect(Stream.tick(interval), () => read(rest)))
      : Effect.fail(new InvalidUri({ uri, what: "the path is not absolute", expected: "file:///path/to/file" })))

/**
 * A scheme of one's own for server sets: `registry://host:port/path` names the endpoints that a registry lists over HTTP, a `host:port`
 * each line. It is asked again and again, so a server set that moves is followed.
 */
import { Endpoint, InvalidUri, ServerSet, ServerSetState } from "@scales-rpc/core"
import { Effect, Stream } from "effect"
import type { Duration } from "effect"

const endpointOf = (line: string): Endpoint => {
  const colon = line.lastIndexOf(":")
  return Endpoint.tcp(line.slice(0, colon), Number(line.slice(colon + 1)))
}

/** What the registry says now. One that cannot be asked, or talks nonsense, is no empty set: clients keep the endpoints they have. */
const ask = (url: URL): Effect.Effect<ServerSetState> =>
  Effect.tryPromise(async (signal) => {
    const response = await fetch(url, { signal })
    const text = await response.text()
    if (response.status === 404) return ServerSetState.Neg
    if (!response.ok) throw new Error(`the registry says ${response.status}`)
    return ServerSetState.Bound(text.split("\n").filter((line) => line !== "").map(endpointOf))
  }).pipe(
    Effect.timeout("5 seconds"),
    Effect.catch((cause) => Effect.succeed(ServerSetState.Failed(cause)))
  )

/** Provide it to a client's layer, which then takes `registry://` URIs. */
export const RegistryResolver = (interval: Duration.Input = "5 seconds") =>
  ServerSet.resolver("registry", (uri, rest) =>
    URL.canParse(`http://${rest}`)
      ? Effect.succeed(Stream.mapEffect(Stream.tick(interval), () => ask(new URL(`http://${rest}`))))
      : Effect.fail(new InvalidUri({ uri, what: "no host and path", expected: "registry://host:port/path" })))

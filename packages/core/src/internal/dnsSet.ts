/**
 * `dns://name:port`: an endpoint for each address of a name, A and AAAA, with the name as `name` in its metadata.
 *
 * The name is resolved again when the shortest TTL of its addresses has passed, at least a second and at most 5 minutes. No such name is
 * `Neg`, one without addresses an empty set; both are asked for again after the interval of `DnsSettings`. Anything else that DNS answers, or no answer within 10
 * seconds, is a failure: the last addresses stand, and it is asked again after about 1 second, then 2, 4 and so on up to 30. An address in
 * place of the name is that endpoint, for good. The host of an endpoint is its address: for TLS, give the name as `serverName`.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { isIP } from "node:net"
import { Endpoint } from "../Endpoint.ts"
import { type InvalidOption, InvalidUri, ResolverFailed } from "../RpcError.ts"
import { ServerSetState, type States } from "../ServerSetState.ts"
import { parseAddress } from "./address.ts"
import { dueIn, isNegative, isNoName, Name, retryIn, round, type Settings, settings } from "./dnsNames.ts"
import { codeOf } from "./fileStamp.ts"
import { lookedAt } from "./lookedAt.ts"

/** What DNS answered, or did not, as the failure of a look. */
export const notResolved = (uri: string, name: string, error: Error): ResolverFailed =>
  new ResolverFailed({
    uri,
    what: "code" in error ? `DNS says ${codeOf(error)} of ${name}` : `${error.message} of DNS for ${name}`,
    cause: error
  })

const looking = (uri: string, host: string, port: number, settings: Settings) =>
  Effect.sync(() => {
    const name = new Name(host, settings, settings.servers === undefined)
    let waitMillis = 0
    let failures = 0
    return Effect.gen(function*() {
      if (waitMillis > 0) yield* Effect.sleep(waitMillis)
      const result = yield* Effect.result(round(settings, (resolver) => name.resolve(resolver)))
      if (Result.isSuccess(result)) {
        failures = 0
        waitMillis = yield* dueIn(settings, result.success.ttlMillis)
        const metadata = { name: host }
        return ServerSetState.Bound(
          result.success.addresses.map((address) => Endpoint.tcp(address, port, { metadata }))
        )
      }
      if (isNegative(result.failure)) {
        failures = 0
        waitMillis = yield* dueIn(settings, undefined)
        return isNoName(result.failure) ? ServerSetState.Neg : ServerSetState.Bound([])
      }
      waitMillis = yield* retryIn(++failures)
      return yield* notResolved(uri, host, result.failure)
    })
  })

/** Resolves `dns://name:port`. Fails with `InvalidUri`, and with `InvalidOption` for `DnsSettings`. */
export const dnsSet = (uri: string, rest: string): Effect.Effect<States, InvalidUri | InvalidOption, Scope.Scope> => {
  const expected = "dns://name:port, a port from 1 to 65535"
  if (rest.includes(",")) return Effect.fail(new InvalidUri({ uri, what: "it names more than one", expected }))
  const endpoint = parseAddress(uri, rest)
  if (endpoint instanceof InvalidUri) return Effect.fail(new InvalidUri({ uri, what: endpoint.what, expected }))
  const { host, port } = endpoint
  return Effect.map(settings, (settings) =>
    isIP(host) === 0
      ? lookedAt(looking(uri, host, port, settings))
      : Stream.succeed(ServerSetState.Bound([endpoint])))
}

/** The messages and the endpoints of the suite, and what a balancer for them is. */
import type * as Layer from "effect/Layer"
import { Endpoint } from "../../Endpoint.ts"
import type { BuildError, RpcError } from "../../RpcError.ts"
import type { ServerSet } from "../../ServerSet.ts"
import { type Family, wire } from "../../Sink.ts"
import type { Stack } from "../../Stack.ts"

/** The family of the suite: plain strings. */
export const family: Family<"Conformance", string, string, RpcError> = wire<string, string>()("Conformance")

/** A balancer's layer for the family of the suite. */
export type MakeBalancer = (
  family: Family<"Conformance", string, string, RpcError>
) => Layer.Layer<"Conformance/Balanced", BuildError, "Conformance/Endpoints" | ServerSet | Stack>

/** `h1:1`, `h2:1` and so on. */
export const host = (number: number, weight?: number): Endpoint => Endpoint.tcp(`h${number}`, 1, { weight })

/** So many endpoints from `h1:1`. */
export const hosts = (count: number): ReadonlyArray<Endpoint> => Array.from({ length: count }, (_, i) => host(i + 1))

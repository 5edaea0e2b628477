/** Plain Thrift as a wire family: what a call of any service looks like on its way to and from a connection of its own. */
import { type Family, type RpcError, wire } from "@scales-rpc/core"
import type { ThriftRequest, ThriftResponse } from "./ThriftClient.ts"

/** The planes of plain Thrift: `ThriftWire.Connector`, `ThriftWire.Endpoints`, `ThriftWire.Balanced`. */
export const ThriftWire: Family<"Thrift", ThriftRequest, ThriftResponse, RpcError> = wire<
  ThriftRequest,
  ThriftResponse
>()("Thrift")

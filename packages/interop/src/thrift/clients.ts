/** Our clients of the test service. */
import { Protocols, Thrift, type ThriftService } from "@scales-rpc/thrift"
import { build } from "../thriftmux/echo.ts"
import { SecondService, ThriftTest, ThriftTest17 } from "./services.ts"
import type { Way } from "./ways.ts"

const connect = <Self, Id extends string, Client>(
  service: ThriftService<Self, Id, Client>,
  name: string,
  { protocol, sharing, transport }: Way,
  port: number,
  options: Thrift.ThriftOptions = {}
) =>
  build(
    service,
    Thrift.layer(service, {
      uri: `tcp://127.0.0.1:${port}`,
      protocol: Protocols[protocol],
      framing: transport,
      multiplexed: sharing === "multiplexed" ? name : undefined,
      ...options
    })
  )

/** A client of the server on a port of 127.0.0.1, by compiler 0.24. */
export const connect24 = (way: Way, port: number, options?: Thrift.ThriftOptions) =>
  connect(ThriftTest, "ThriftTest", way, port, options)

/** The same by compiler 0.17. */
export const connect17 = (way: Way, port: number, options?: Thrift.ThriftOptions) =>
  connect(ThriftTest17, "ThriftTest", way, port, options)

/** A client of the second service of the same server. */
export const connectSecond = (way: Way, port: number, options?: Thrift.ThriftOptions) =>
  connect(SecondService, "SecondService", way, port, options)

/** Clients of Thrift services: typed methods over a stack composed by hand (`client`), or ready made (`layer`). */
export * from "./ThriftClient.ts"
export * from "./ThriftLayer.ts"

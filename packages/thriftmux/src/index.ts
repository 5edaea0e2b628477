/** Thrift over mux: clients and servers that speak Finagle's ThriftMux. */
export * as ThriftMux from "./ThriftMux.ts"
export * as ThriftMuxServer from "./ThriftMuxServer.ts"

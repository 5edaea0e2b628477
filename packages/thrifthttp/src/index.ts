/** Thrift services over HTTP: each call is a POST of its message, whose response is the reply. */
export * as ThriftHttp from "./ThriftHttp.ts"

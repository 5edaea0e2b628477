/** Sockets for transports and servers of any protocol: connecting, and TLS on both sides. */
export * as Socket from "../Socket.ts"
export * as Tls from "../Tls.ts"
export type { Pem, TlsClientOptions, TlsServerOptions } from "../Tls.ts"

/** Sockets for transports and servers of any protocol: connecting, listening, and TLS on both sides. */
export { addressOf, listen, ListenFailed, type ListenOptions } from "../Listen.ts"
export { announceServer, type ServerAnnouncement, type ServerAnnounceOptions } from "../ServerAnnounce.ts"
export * as Socket from "../Socket.ts"
export * as Tls from "../Tls.ts"
export type { Pem, TlsClientOptions, TlsServerOptions } from "../Tls.ts"
export { CountedConnection, TransportStats } from "../TransportStats.ts"
export { WriteChunks } from "../WriteChunks.ts"

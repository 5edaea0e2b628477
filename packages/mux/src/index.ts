/** Mux, Finagle's session protocol: codec, sessions and an embedded server. */
export * from "./CodecError.ts"
export * from "./Contexts.ts"
export { decode } from "./Decode.ts"
export { encode, encodeContexts } from "./Encode.ts"
export * from "./Fragments.ts"
export * from "./FrameReader.ts"
export * from "./FrameWriter.ts"
export * as Message from "./Message.ts"
export { Mux, type MuxRequest, type MuxResponse } from "./Mux.ts"
export * from "./MuxFailure.ts"
export {
  ListenFailed,
  MuxServer,
  type MuxServerCounts,
  type MuxServerOptions,
  type MuxServerShape,
  type ServedSession
} from "./MuxServer.ts"
export * as MuxTransport from "./MuxTransport.ts"
export { type Interruption, ServerExchange } from "./ServerExchange.ts"
export { ErrorReply, type Handler, type MuxServerReply, MuxServerRequest, Nack } from "./ServerRequest.ts"
export { type ServerConnection, type ServerCounts, ServerSession, type ServerSessionOptions } from "./ServerSession.ts"
export type { TlsMode } from "./tlsMode.ts"

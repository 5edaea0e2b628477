/** Scripted peers for tests of Thrift clients and servers. */
export * as RawPeer from "./RawPeer.ts"
export type { RawConnection, RawMessage } from "./RawPeer.ts"

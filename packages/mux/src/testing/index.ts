/** Scripted peers for tests of mux clients and servers. */
export * as RawPeer from "./RawPeer.ts"
export type { RawConnection } from "./RawPeer.ts"

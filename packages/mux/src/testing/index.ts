/** For tests of mux clients and servers: scripted peers, and a record of what two ends say to each other in memory. */
export * as MuxFrames from "./MuxFrames.ts"
export * as RawPeer from "./RawPeer.ts"
export type { RawConnection } from "./RawPeer.ts"

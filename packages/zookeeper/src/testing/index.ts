/** A stand-in for ZooKeeper, for tests without a server, and what every session is held to. */
export * from "./FakeZooKeeper.ts"
export * as SessionConformance from "./SessionConformance.ts"

/** Server sets and announcements in ZooKeeper, and a typed client of it. */
export * from "./errors.ts"
export { decodeMember, encodeMember, type Member } from "./Members.ts"
export { table as metricTable } from "./metricTable.ts"
export * from "./Session.ts"
export type { ZooKeeperHost } from "./uri.ts"
export { zk } from "./zk.ts"
export * from "./ZooKeeper.ts"

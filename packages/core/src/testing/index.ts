/** Stand-ins for each role of a stack, for tests without sockets. */
export * as Mock from "./Mock.ts"
export * as Recorder from "./Recorder.ts"
export { type Script, type ScriptedConnection, ScriptedConnector } from "./ScriptedConnector.ts"
export * as Scripted from "./ScriptedConnector.ts"
export * as ScriptedSink from "./ScriptedSink.ts"
export * as Seed from "./Seed.ts"
export { TestServerSet } from "./TestServerSet.ts"

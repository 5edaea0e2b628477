/** Our server of echo.thrift over plain Thrift, and Finagle's client of it. */
import { ThriftServer } from "@scales-rpc/thrift"
import * as Effect from "effect/Effect"
import * as References from "effect/References"
import { Overdrawn, Refused } from "../../../examples/gen/echo_types.js"
import * as Events from "../Events.ts"
import * as Finagle from "../Finagle.ts"
import type { Options } from "../Peer.ts"
import { Echo } from "../thriftmux/echo.ts"
import { json, seenInbound } from "../thriftmux/ours.ts"

/** A server of ours with the behaviour of Finagle's peer, and the notes that it has been given. */
const serve = (options: ThriftServer.ThriftServerOptions) =>
  Effect.gen(function*() {
    const notes = yield* Events.make<string>()
    const server = yield* ThriftServer.make(Echo, {
      ping: () => Effect.succeed("pong"),
      touch: () => Effect.void,
      passMessage: Effect.succeed,
      echo: Effect.succeed,
      fail: (why, missing) => Effect.fail(String(missing) === "0" ? new Refused({ why }) : new Overdrawn({ missing })),
      crash: (why) => Effect.die(new TypeError(why)),
      slow: (millis) => Effect.as(Effect.sleep(millis), "slow"),
      seen: () => Effect.map(seenInbound, json),
      blob: Effect.succeed,
      index: (index) => Effect.succeed(index),
      note: (text) => Effect.sync(() => notes.add(text))
    }, options)
    return { server, notes, address: `127.0.0.1:${server.address.port}` }
  }).pipe(Effect.provideService(References.MinimumLogLevel, "None"))

/** Such a server, and Finagle's client of it. */
export const fromFinagle = (options: ThriftServer.ThriftServerOptions = {}, client: Options = {}) =>
  Effect.gen(function*() {
    const ours = yield* serve(options)
    return { ...ours, client: yield* Finagle.thriftClient([ours.address], client) }
  })

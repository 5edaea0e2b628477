/** The Echo service of `idl/echo.thrift`, and a server's handlers for it. */
import { Rpc, Trace } from "@scales-rpc/core"
import { type ThriftServer, ThriftService } from "@scales-rpc/thrift"
import { Effect } from "effect"
import { Overdrawn, Refused } from "../gen/echo_types.js"
import * as EchoGen from "../gen/Echo.js"

/** The service: `yield* Echo` gives its typed methods. */
export class Echo extends ThriftService<Echo>()("Echo", EchoGen) {}

/** Handlers for servers of either kind that answer what the IDL says; `extraMillis` says how much longer `passMessage` takes than it must. */
export const echoHandlers = (extraMillis: () => number = () => 0): ThriftServer.Handlers<typeof Echo> => ({
  ping: () => Effect.succeed("pong"),
  touch: () => Effect.void,
  passMessage: (message) => {
    const millis = extraMillis()
    return millis === 0 ? Effect.succeed(message) : Effect.as(Effect.sleep(millis), message)
  },
  echo: (message) => Effect.succeed(message),
  fail: (why, missing) =>
    Number(missing) === 0 ? Effect.fail(new Refused({ why })) : Effect.fail(new Overdrawn({ missing })),
  crash: (why) => Effect.die(new Error(why)),
  slow: (millis) => Effect.as(Effect.sleep(millis), "slow"),
  seen: () =>
    Effect.map(Effect.service(Rpc.Inbound), (inbound) =>
      JSON.stringify({
        peer: inbound?.peer,
        deadline: inbound?.deadline,
        trace: inbound?.context.get(Trace)?.traceId.toString(16)
      })),
  blob: (bytes) => Effect.succeed(bytes),
  index: (index) => Effect.succeed(index),
  note: () => Effect.void
})

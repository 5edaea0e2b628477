/** Our servers of the test service: one for each way to call it, by each compiler, and one that finds out how it is called. */
import { Protocols, type ThriftProcessor, ThriftServer } from "@scales-rpc/thrift"
import * as Effect from "effect/Effect"
import * as References from "effect/References"
import { Numberz, SecondService, ThriftTest, ThriftTest17, type Types, types17, types24 } from "./services.ts"
import { type Way, ways } from "./ways.ts"

/** Does what the IDL says of each method. */
const handlers = (types: Types, oneway: () => void): ThriftServer.Handlers<typeof ThriftTest> => {
  const xtruct = (fields: Partial<InstanceType<Types["Xtruct"]>>) => Object.assign(new types.Xtruct(), fields)
  const xception = (message: string) => new types.Xception({ errorCode: 1001, message })
  return {
    testVoid: () => Effect.void,
    testString: Effect.succeed,
    testBool: Effect.succeed,
    testByte: Effect.succeed,
    testI32: Effect.succeed,
    testI64: Effect.succeed,
    testDouble: Effect.succeed,
    testBinary: Effect.succeed,
    testUuid: Effect.succeed,
    testStruct: Effect.succeed,
    testNest: Effect.succeed,
    testMap: Effect.succeed,
    testStringMap: Effect.succeed,
    testSet: Effect.succeed,
    testList: Effect.succeed,
    testEnum: Effect.succeed,
    testTypedef: Effect.succeed,
    testMapMap: () =>
      Effect.succeed({
        4: { 1: 1, 2: 2, 3: 3, 4: 4 },
        [-4]: { [-1]: -1, [-2]: -2, [-3]: -3, [-4]: -4 }
      }),
    testInsanity: (argument) =>
      Effect.succeed({
        1: { [Numberz.TWO]: argument, [Numberz.THREE]: argument },
        2: { [Numberz.SIX]: new types.Insanity() }
      }),
    testMulti: (byte_thing, i32_thing, i64_thing) =>
      Effect.succeed(new types.Xtruct({ string_thing: "Hello2", byte_thing, i32_thing, i64_thing })),
    testException: (arg) =>
      arg === "Xception" ? Effect.fail(xception(arg)) : arg === "TException" ? Effect.die(new Error(arg)) : Effect.void,
    testMultiException: (arg0, arg1) =>
      arg0 === "Xception"
        ? Effect.fail(xception("This is an Xception"))
        : arg0 === "Xception2"
        ? Effect.fail(
          new types.Xception2({ errorCode: 2002, struct_thing: xtruct({ string_thing: "This is an Xception2" }) })
        )
        : Effect.succeed(xtruct({ string_thing: arg1 })),
    testOneway: (secondsToSleep) => Effect.andThen(Effect.sync(oneway), Effect.sleep(`${secondsToSleep} seconds`))
  }
}

const second: ThriftServer.Handlers<typeof SecondService> = {
  secondtestString: (thing) => Effect.succeed(`testString("${thing}")`)
}

/** Starts all of them. What handlers fail with on purpose is not logged. */
export const serve = Effect.gen(function*() {
  const oneways = new Map<string, number>()
  const handled = (types: Types, way: string) => handlers(types, () => oneways.set(way, (oneways.get(way) ?? 0) + 1))
  const handled17 = (way: string) => handled(types17, way) as unknown as ThriftServer.Handlers<typeof ThriftTest17>
  const both = (test: ThriftProcessor.Implementation, options: ThriftServer.MultiplexedServerOptions) =>
    ThriftServer.makeMultiplexed(
      { ThriftTest: test, SecondService: ThriftServer.implement(SecondService, second) },
      options
    )
  const by24 = ({ name, protocol, sharing, transport }: Way) => {
    const options = { protocol: Protocols[protocol], framing: transport }
    return sharing === "plain"
      ? ThriftServer.make(ThriftTest, handled(types24, name), options)
      : both(ThriftServer.implement(ThriftTest, handled(types24, name)), options)
  }
  const by17 = ({ name, protocol, sharing, transport }: Way) => {
    const options = { protocol: Protocols[protocol], framing: transport }
    return sharing === "plain"
      ? ThriftServer.make(ThriftTest17, handled17(name), options)
      : both(ThriftServer.implement(ThriftTest17, handled17(name)), options)
  }
  const ports = new Map<string, { readonly by24: number; readonly by17: number }>()
  for (const way of ways) {
    const servers = [yield* by24(way), yield* by17(way)] as const
    ports.set(way.name, { by24: servers[0].address.port, by17: servers[1].address.port })
  }
  const detecting = yield* both(ThriftServer.implement(ThriftTest, handled(types24, "detected")), {
    unnamed: "ThriftTest",
    protocol: "auto",
    framing: "auto"
  })
  return {
    /** The servers that are called in one way: the one by compiler 0.24, and the one by 0.17. */
    ports: ({ name }: Way) => ports.get(name)!,
    /** The one that is called in every way. */
    detecting: detecting.address.port,
    /** How many oneway calls the servers of one way have begun. */
    oneways: ({ name }: Way) => oneways.get(name) ?? 0
  }
}).pipe(Effect.provideService(References.MinimumLogLevel, "None"))

/** The servers of ThriftTest.thrift on the npm package: one for each way to call them, each on a port of its own; and over HTTP. */
import { type EventEmitter, once } from "node:events"
import type { AddressInfo, Server } from "node:net"
import { setTimeout as sleep } from "node:timers/promises"
import thrift from "thrift"
import * as SecondService from "../../../thrift/gen24/SecondService.js"
import { Insanity, Xception, Xception2, Xtruct } from "../../../thrift/gen24/ThriftTest_types.js"
import * as ThriftTest from "../../../thrift/gen24/ThriftTest.js"
import { Numberz } from "../services.ts"
import { ways } from "../ways.ts"
import { commands, say } from "../../Console.ts"
import { protocols, transports } from "./wire.ts"

const same = <A>(thing: A): A => thing

/** Does what the IDL says of each method. How many parameters a function has tells the package that it takes no callback. */
const handler = (way: string) => ({
  testVoid: () => {},
  testString: same,
  testBool: same,
  testByte: same,
  testI32: same,
  testI64: same,
  testDouble: same,
  testBinary: same,
  testUuid: same,
  testStruct: same,
  testNest: same,
  testMap: same,
  testStringMap: same,
  testSet: same,
  testList: same,
  testEnum: same,
  testTypedef: same,
  testMapMap: (_hello: number) => ({
    4: { 1: 1, 2: 2, 3: 3, 4: 4 },
    [-4]: { [-1]: -1, [-2]: -2, [-3]: -3, [-4]: -4 }
  }),
  testInsanity: (argument: Insanity) => ({
    1: { [Numberz.TWO]: argument, [Numberz.THREE]: argument },
    2: { [Numberz.SIX]: new Insanity() }
  }),
  testMulti: (byte_thing: number, i32_thing: number, i64_thing: any, _3: unknown, _4: unknown, _5: unknown) =>
    new Xtruct({ string_thing: "Hello2", byte_thing, i32_thing, i64_thing }),
  testException: (arg: string) => {
    if (arg === "Xception") throw new Xception({ errorCode: 1001, message: arg })
    if (arg === "TException") throw new Error(arg)
  },
  testMultiException: (arg0: string, arg1: string) => {
    const xtruct = (string_thing: string) => Object.assign(new Xtruct(), { string_thing })
    if (arg0 === "Xception") throw new Xception({ errorCode: 1001, message: "This is an Xception" })
    if (arg0 === "Xception2") {
      throw new Xception2({ errorCode: 2002, struct_thing: xtruct("This is an Xception2") })
    }
    return xtruct(arg1)
  },
  testOneway: (secondsToSleep: number) => {
    say("EVENT oneway", { way, seconds: secondsToSleep })
    return sleep(secondsToSleep * 1000)
  }
})

/** Not in the package's declarations. */
interface Multiplexing extends thrift.MultiplexedProcessor {
  readonly registerProcessor: (name: string, processor: unknown) => void
}
const { createMultiplexServer } = thrift as unknown as {
  readonly createMultiplexServer: (processor: Multiplexing, options: object) => ReturnType<typeof thrift.createServer>
}

const multiplexing = (way: string): Multiplexing => {
  const both = new thrift.MultiplexedProcessor() as Multiplexing
  both.registerProcessor("ThriftTest", new ThriftTest.Processor(handler(way)))
  const second = { secondtestString: (thing: string) => `testString("${thing}")` }
  both.registerProcessor("SecondService", new SecondService.Processor(second))
  return both
}

const portOf = async (server: Pick<Server, "address" | "listen"> & EventEmitter): Promise<number> => {
  // It gives away here what fails on a connection.
  server.on("error", (error) => console.error(error))
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  return (server.address() as AddressInfo).port
}

const ports: Record<string, number> = {}
for (const { name, protocol, sharing, transport } of ways) {
  const options = { protocol: protocols[protocol], transport: transports[transport] }
  const server = sharing === "plain"
    ? thrift.createServer(ThriftTest, handler(name), options)
    : createMultiplexServer(multiplexing(name), options)
  ports[name] = await portOf(server)
}
const http: Record<string, number> = {}
for (const [protocol, how] of Object.entries(protocols)) {
  const service = { processor: ThriftTest, handler: handler(`${protocol} http`), protocol: how }
  http[protocol] = await portOf(thrift.createWebServer({ services: { "/thrift": service } }) as unknown as Server)
}
say("READY", { ports, http })
await commands(() => {
  throw new Error("a server takes no commands")
})

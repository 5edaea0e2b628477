/** A client of ThriftTest.thrift on the npm package: calls every method of a server and checks what it answers. */
import { ThriftApplicationException, type ThriftCallError, ThriftException } from "@scales-rpc/thrift"
import * as Effect from "effect/Effect"
import thrift from "thrift"
import * as SecondServiceGen from "../../../thrift/gen24/SecondService.js"
import * as ThriftTestGen from "../../../thrift/gen24/ThriftTest.js"
import { check, checkMany, type Client, notFinite, usualDoubles } from "../checks.ts"
import { type SecondService, types24 } from "../services.ts"
import { commands, say } from "../../Console.ts"
import { protocols, transports } from "./wire.ts"

/** What a call was refused with, as our clients give it. */
const failure = (error: unknown): ThriftCallError | ThriftException<unknown> =>
  error instanceof types24.Xception || error instanceof types24.Xception2
    ? new ThriftException({ exception: error })
    : error instanceof thrift.Thrift.TApplicationException
    ? new ThriftApplicationException({ message: error.message, type: (error as any).type })
    : error as ThriftCallError

/** The methods of one of the package's clients, as those of ours are called. A oneway method of its ends at once. */
const effects = <A>(client: object, methods: ReadonlyArray<string>): A =>
  Object.fromEntries(methods.map((method) => [
    method,
    (...args: ReadonlyArray<unknown>) =>
      Effect.tryPromise({ try: () => (client as any)[method](...args) as Promise<unknown>, catch: failure })
  ])) as A

const methodsOf = (client: object, uuid = true): ReadonlyArray<string> =>
  Object.getOwnPropertyNames(Object.getPrototypeOf(client))
    .filter((name) => /^(second)?test/.test(name) && (uuid || name !== "testUuid"))

/** The package throws what goes wrong on a connection, or tells it as an event, and leaves the call as it is. */
const lost = (connection: thrift.Connection) =>
  Effect.callback<never, Error>((resume) => {
    const fail = (error: unknown) => resume(Effect.fail(new Error(`the connection failed: ${String(error)}`)))
    connection.on("error", fail).on("close", () => fail("closed"))
    process.on("uncaughtException", fail)
    return Effect.sync(() => process.off("uncaughtException", fail))
  })

/** Opens a connection, uses it for what is asked, and closes it. */
const run = (
  command: string,
  protocol: keyof typeof protocols,
  transport: keyof typeof transports,
  sharing: string,
  port: number,
  uuid: boolean
) =>
  Effect.suspend(() => {
    const connection = thrift.createConnection("127.0.0.1", port, {
      protocol: protocols[protocol],
      transport: transports[transport],
      max_attempts: 1
    })
    const multiplexer = new thrift.Multiplexer()
    const plain = sharing === "plain"
    const client = plain
      ? thrift.createClient(ThriftTestGen, connection)
      : multiplexer.createClient("ThriftTest", ThriftTestGen, connection)
    const second = plain ? undefined : multiplexer.createClient("SecondService", SecondServiceGen, connection)
    const typed = effects<Client>(client, methodsOf(client, uuid))
    const asked = command === "pipeline"
      // The package sends one behind the other, whether or not the first are answered.
      ? checkMany(typed, 1000, 1000)
      : check(typed, {
        types: types24,
        second: second && effects<typeof SecondService.Service>(second, methodsOf(second)),
        doubles: [...usualDoubles, ...notFinite]
      })
    return asked.pipe(
      Effect.raceFirst(lost(connection)),
      Effect.timeout("10 seconds"),
      Effect.ensuring(Effect.sync(() => connection.end()))
    )
  })

say("READY")
await commands((id, [command, protocol, transport, sharing, port, withoutUuid]) => {
  if (command !== "run" && command !== "pipeline") throw new Error("a client knows run and pipeline")
  return Effect.runPromise(
    run(command, protocol as any, transport as any, sharing!, Number(port), withoutUuid === undefined)
  ).then(
    () => say("OK", { id }),
    (error) => {
      process.exitCode = 1
      say("ERROR", { id, message: String(error) })
    }
  )
})

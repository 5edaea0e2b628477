// What the compiler infers from the declarations of both of Apache's compilers. The assertions are types: tsc is the test.
import { Context, Effect } from "effect"
import type Int64 from "node-int64"
import { assert, it } from "vitest"
import { type ClientOf, type HandlersOf, type ThriftCallError, ThriftException, ThriftService } from "../src/index.ts"
import * as EchoGen17 from "./gen17/Echo.js"
import type * as EchoTypes17 from "./gen17/echo_types.js"
import * as WideGen17 from "./gen17/Wide.js"
import * as EchoGen24 from "./gen24/Echo.js"
import { Message, type Overdrawn, Refused } from "./gen24/echo_types.js"
import * as UuidsGen24 from "./gen24/Uuids.js"
import * as WideGen24 from "./gen24/Wide.js"
import type * as Base24 from "./gen24/base_types.js"
import type * as Types24 from "./gen24/wide_types.js"
import * as EchoGenBig from "./gen24bigint/Echo.js"
import type * as WideGenBig from "./gen24bigint/Wide.js"

class Echo17 extends ThriftService<Echo17>()("Echo17", EchoGen17) {}
class Echo24 extends ThriftService<Echo24>()("Echo24", EchoGen24) {}
class EchoBig extends ThriftService<EchoBig>()("EchoBig", EchoGenBig) {}
class Wide17 extends ThriftService<Wide17>()("Wide17", WideGen17) {}
class Wide24 extends ThriftService<Wide24>()("Wide24", WideGen24) {}
class Uuids extends ThriftService<Uuids>()("Uuids", UuidsGen24) {}

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false
const yes = <_ extends true>() => {}

type Method<Service, Name extends keyof Service> = Service[Name] extends (...args: infer Args) => Effect.Effect<
  infer A,
  infer E,
  infer R
> ? { args: Args; result: A; error: E; services: R } :
  never
type Expected<Args, A, Declared = never, E = ThriftCallError> = {
  args: Args
  result: A
  error: [Declared] extends [never] ? E : ThriftException<Declared> | E
  services: never
}

type EchoMethod =
  | "passMessage"
  | "echo"
  | "fail"
  | "crash"
  | "slow"
  | "seen"
  | "blob"
  | "index"
  | "note"
  | "ping"
  | "touch"

it("infers the same client from both compilers", () => {
  yes<Equal<keyof Echo17["Service"], EchoMethod>>()
  yes<Equal<keyof Echo24["Service"], EchoMethod>>()
  yes<Equal<keyof EchoBig["Service"], EchoMethod>>()

  type E17 = Echo17["Service"]
  type M17 = EchoTypes17.Message
  yes<Equal<Method<E17, "passMessage">, Expected<[message: M17], M17>>>()
  yes<
    Equal<
      Method<E17, "fail">,
      Expected<[why: string, missing: Int64], void, EchoTypes17.Refused | EchoTypes17.Overdrawn>
    >
  >()
  yes<Equal<Method<E17, "ping">, Expected<[], string>>>()
  yes<Equal<Method<E17, "seen">, Expected<[], string>>>()
  yes<Equal<Method<E17, "touch">, Expected<[key: string], void>>>()
  yes<Equal<Method<E17, "blob">, Expected<[bytes: Buffer], Buffer>>>()
  yes<Equal<Method<E17, "note">, Expected<[text: string], void>>>()

  type E24 = Echo24["Service"]
  yes<Equal<Method<E24, "passMessage">, Expected<[message: Message], Message>>>()
  yes<Equal<Method<E24, "fail">, Expected<[why: string, missing: Int64], void, Refused | Overdrawn>>>()
  yes<Equal<Method<E24, "ping">, Expected<[], string>>>()
  yes<Equal<Method<E24, "seen">, Expected<[], string>>>()
  yes<Equal<Method<E24, "touch">, Expected<[key: string], void>>>()
  yes<Equal<Method<E24, "blob">, Expected<[bytes: Buffer], Buffer>>>()
  yes<Equal<Method<E24, "note">, Expected<[text: string], void>>>()
  yes<
    Equal<
      Method<E24, "index">,
      Expected<
        [
          index: { [k: string]: Array<Int64> },
          names: Array<string>,
          ratio: number,
          flag: boolean,
          small: any,
          short: number
        ],
        { [k: string]: Array<Int64> }
      >
    >
  >()
})

it("infers bigint where the compiler's option says so", () => {
  yes<Equal<Parameters<EchoBig["Service"]["fail"]>, [why: string, missing: bigint]>>()
  type Wide = ClientOf<InstanceType<typeof WideGenBig.Client>, never>
  yes<Equal<Method<Wide, "large">, Expected<[value: bigint], bigint, never, never>>>()
  yes<Equal<Method<Wide, "ids">, Expected<[value: Array<bigint>], Array<bigint>, never, never>>>()
})

it("infers methods inherited from another file, several exceptions, oneway methods and containers", () => {
  type W = Wide24["Service"]
  yes<Equal<keyof Wide17["Service"], keyof W>>()
  yes<Equal<Method<W, "reset">, Expected<[], void>>>()
  yes<
    Equal<Method<W, "move">, Expected<[point: Base24.Point, by: number], Base24.Point, Base24.Missing>>
  >()
  yes<
    Equal<Method<W, "guarded">, Expected<[key: string], string, Base24.Missing | Types24.Denied | Types24.Broken>>
  >()
  yes<Equal<Method<W, "quiet">, Expected<[key: string], void, Types24.Denied>>>()
  yes<Equal<Method<W, "nudge">, Expected<[], void>>>()
  yes<Equal<Method<W, "tell">, Expected<[text: string, id: Int64], void>>>()
  yes<Equal<Method<W, "large">, Expected<[value: Int64], Int64>>>()
  yes<Equal<Method<W, "bytes">, Expected<[value: Buffer], Buffer>>>()
  yes<Equal<Method<W, "level">, Expected<[value: Types24.Level], Types24.Level>>>()
  yes<Equal<Method<W, "unique">, Expected<[value: Array<string>], Array<string>>>>()
  yes<
    Equal<
      Method<W, "mapped">,
      Expected<[value: { [k: string]: Types24.Scalars }], { [k: string]: Types24.Scalars }>
    >
  >()
  yes<Equal<Method<Uuids["Service"], "next">, Expected<[previous: string], string>>>()
})

it("leaves nothing to write by hand, and refuses what does not fit", () => {
  const program = Effect.gen(function*() {
    const echo = yield* Echo24
    const reply = yield* echo.passMessage(new Message())
    const text: string = reply.text
    yield* echo.fail("no", null as never).pipe(
      Effect.catchTag("ThriftException", (e) => {
        yes<Equal<typeof e.exception, Refused | Overdrawn>>()
        return Effect.void
      })
    )
    // @ts-expect-error the result of a void method
    const nothing: string = yield* echo.touch("k")
    // @ts-expect-error too few arguments
    echo.blob()
    // @ts-expect-error no such method
    void echo.missing
    // @ts-expect-error an argument of another type
    echo.slow("1")
    return [text, nothing]
  })
  yes<
    Equal<
      typeof program,
      Effect.Effect<Array<string>, ThriftCallError, Echo24>
    >
  >()
  // @ts-expect-error another service's client
  void Context.make(Echo24, {} as Uuids["Service"])
  assert.strictEqual(Echo24.key, "Echo24")
  assert.strictEqual(Echo24.definition.name, "Echo")
})

it("types the handlers of a server", () => {
  type Client = InstanceType<typeof EchoGen24.Client>
  type H = HandlersOf<Client, "R">
  yes<Equal<keyof H, EchoMethod>>()
  yes<Equal<H["passMessage"], (message: Message) => Effect.Effect<Message, never, "R">>>()
  yes<
    Equal<
      H["fail"],
      (why: string, missing: Int64) => Effect.Effect<
        void,
        Refused | Overdrawn | ThriftException<Refused | Overdrawn>,
        "R"
      >
    >
  >()
  yes<Equal<H["note"], (text: string) => Effect.Effect<void, never, "R">>>()

  const handlers: Pick<HandlersOf<Client>, "fail" | "ping" | "seen"> = {
    fail: (why) =>
      why === ""
        ? Effect.fail(new ThriftException({ exception: new Refused({ why }) }))
        : Effect.fail(new Refused({ why })),
    // @ts-expect-error ping declares no exception
    ping: () => Effect.fail(new Refused({ why: "" })),
    // @ts-expect-error a result of another type
    seen: () => Effect.succeed(1)
  }
  assert.isDefined(handlers)

  const serve = <Self, Id extends string, C>(
    service: ThriftService<Self, Id, C>,
    of: Partial<HandlersOf<C>>
  ): [typeof service, typeof of] => [service, of]
  const served = serve(Echo24, { slow: (millis) => Effect.succeed(String(millis + 1)) })
  yes<Equal<typeof served[1], Partial<HandlersOf<Client>>>>()
  // @ts-expect-error a handler of another type
  serve(Echo24, { slow: () => Effect.succeed(1) })
})

/**
 * A Thrift service as an Effect service: a class whose methods are typed by what Apache's compiler declares.
 *
 * Both compilers declare each method twice, once with a Promise and once with a callback. The Promise says what the result is,
 * the callback which exceptions are declared; 0.17 and 0.24 differ in whether the callback may be left out.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { ThriftCallError, ThriftException } from "./errors.ts"
import { fromGenerated, type GeneratedModule } from "./GeneratedService.ts"
import type { ServiceDefinition } from "./ServiceDefinition.ts"

/** The exceptions among what a callback's first parameter is: the compilers write `void` when the method declares none. */
type Declared<Error> = Error extends void ? never : Error

/** Arguments, result and declared exceptions of one generated method; `never` for a member that is none. */
type Signature<Member> = Member extends {
  (...args: infer Args): Promise<infer Result>
  (...rest: infer Rest): void
} ? {
    readonly args: Args
    readonly result: Result
    readonly declared: Rest extends [...Args, callback?: infer Callback]
      ? NonNullable<Callback> extends (error: infer Error, ...response: infer _) => void ? Declared<Error>
      : never
      : never
  }
  : never

type MethodName<Client> = {
  [Name in keyof Client]: [Signature<Client[Name]>] extends [never] ? never : Name
}[keyof Client]

type Failure<Declared> = [Declared] extends [never] ? never : ThriftException<Declared>

/**
 * The client of a service, from the generated `Client`'s instance type: each method, own or inherited, takes its arguments and is
 * an effect of its result. It fails with the exceptions that the method declares, or with `E`.
 */
export type ClientOf<Client, E> = {
  readonly [Name in MethodName<Client>]: Signature<Client[Name]> extends {
    readonly args: infer Args extends ReadonlyArray<any>
    readonly result: infer Result
    readonly declared: infer Declared
  } ? (...args: Args) => Effect.Effect<Result, Failure<Declared> | E>
    : never
}

/**
 * What a server implements: the same methods, each failing with nothing but what it declares, as the generated class or as
 * `ThriftException`, or with `E`, and each needing what it will of `R`. An argument that the caller left out is `null`.
 */
export type HandlersOf<Client, R = never, E = never> = {
  readonly [Name in MethodName<Client>]: Signature<Client[Name]> extends {
    readonly args: infer Args extends ReadonlyArray<any>
    readonly result: infer Result
    readonly declared: infer Declared
  } ? (...args: Args) => Effect.Effect<Result, Declared | Failure<Declared> | E, R>
    : never
}

/** The class that `ThriftService` makes. `Client` is the generated client's instance type. */
export interface ThriftService<in out Self, in out Id extends string, in out Client>
  extends Context.ServiceClass<Self, Id, ClientOf<Client, ThriftCallError>>
{
  /** How its messages are written and read. */
  readonly definition: ServiceDefinition
  /** Exists for the compiler only: from it the type of the handlers is inferred. */
  readonly "~client"?: (_: Client) => Client
}

/**
 * Makes a service from a generated module:
 *
 *     import * as EchoGen from "./gen/Echo.js"
 *     class Echo extends ThriftService<Echo>()("Echo", EchoGen) {}
 *
 * `yield* Echo` is then its client. The id is the key of the Effect service: two clusters of one IDL are two classes with two ids.
 */
export const ThriftService = <Self>() =>
<const Id extends string, Module extends GeneratedModule>(
  id: Id,
  module: Module
): ThriftService<Self, Id, InstanceType<Module["Client"]>> => {
  const service = Context.Service<Self, ClientOf<InstanceType<Module["Client"]>, ThriftCallError>>()(id)
  return Object.assign(service, { definition: fromGenerated(module) })
}

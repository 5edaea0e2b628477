/**
 * The top of a Thrift stack: typed methods, the dispatcher that makes calls of them, and the serializer between arguments and the
 * messages of a wire family.
 */
import {
  type Call,
  type CallContext,
  classifyExit,
  Direct,
  Dispatcher,
  type Family,
  InvalidOption,
  type MessageSink,
  Metrics,
  type RpcError,
  Stack,
  Tracing,
  Unsendable
} from "@scales-rpc/core"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import { ThriftEncodeError } from "./errors.ts"
import { checkedLimits } from "./internal/limitOptions.ts"
import { checkedServiceName } from "./internal/serviceName.ts"
import { table } from "./metricTable.ts"
import type { Limits, Protocol, ProtocolReader, ProtocolWriter } from "./Protocol.ts"
import * as Protocols from "./Protocols.ts"
import {
  decodeReply,
  type MethodDefinition,
  protocolErrorOf,
  type Reply,
  type ServiceDefinition
} from "./ServiceDefinition.ts"
import type { ThriftService } from "./ThriftService.ts"
import { ThriftWire } from "./ThriftWire.ts"

/** What a Thrift reply is to a wire family: its bytes. */
export interface ThriftResponse {
  readonly body: Uint8Array
}

/** What a Thrift request is to a wire family: its bytes, and what a wire that cannot match replies by itself needs to know of them. */
export interface ThriftRequest extends ThriftResponse {
  readonly method: string
  /** From 1 to 2^31 - 1, the next for each call of a client. */
  readonly sequenceId: number
  /** No reply is expected. */
  readonly oneway: boolean
}

/** Whether a family that sends `Req` can send Thrift: it takes a request's bytes, and what else it needs of it. */
type Takes<Req> = [ThriftRequest] extends [Req] ? unknown : { readonly "requests of this family are no Thrift": never }

/** Options of a Thrift client. */
export interface ThriftClientOptions {
  /** How long a call may take when its caller says nothing nearer. Default 60 seconds, for ThriftMux 10 (Scales'). */
  readonly timeout?: Duration.Input | undefined
  /** Methods that may be executed twice, by name; one that the service does not have fails the build. Default: none. */
  readonly idempotent?: ReadonlyArray<string> | undefined
  /**
   * What becomes of oneway methods on a wire that answers everything. `"refuse"` (default, as Finagle): they fail with `Unsendable`.
   * `"await"`: they complete when the server's empty reply has come. Over `ThriftWire`, which answers none of them, they complete when
   * their bytes have left.
   */
  readonly oneway?: "refuse" | "await" | undefined
  /** Entries that every call carries, over what its caller set. Default: none. */
  readonly context?: CallContext | undefined
  /** What is accepted in a reply, and written in a request; the defaults are those of `Limits`. */
  readonly limits?: Limits | undefined
  /** What the messages are written in; the server must speak the same. Default `Protocols.binary`. */
  readonly protocol?: Protocol | undefined
  /**
   * The name under which a multiplexing server knows the service: every call is sent as `name:method`. Not empty, without a colon.
   * Default: the server has one service, and calls carry the method's name alone.
   */
  readonly multiplexed?: string | undefined
}

/**
 * The typed client of a service over the balanced sink of a family. It drains when its scope closes. Fails with `InvalidOption` for
 * an option out of its range, and for a method in `idempotent` that the service does not have.
 */
export const client = <Self, Id extends string, Client, FamilyId extends string, Req, Res extends ThriftResponse>(
  service: ThriftService<Self, Id, Client>,
  family: Family<FamilyId, Req, Res, RpcError> & Takes<Req>,
  options: ThriftClientOptions = {}
): Layer.Layer<Self, InvalidOption, `${FamilyId}/Balanced` | Stack> =>
  Layer.effect(
    service,
    Effect.gen(function*() {
      // `Takes` has seen to it: what the family sends can be a Thrift request.
      const sink = (yield* family.Balanced) as unknown as MessageSink<ThriftRequest, Res, RpcError>
      const { dispatch } = yield* Dispatcher.make({
        service: service.key,
        timeout: options.timeout ?? "60 seconds",
        given: options,
        context: options.context
      })
      const limits = yield* checkedLimits("limits", options.limits)
      const { reader, writer } = options.protocol ?? Protocols.binary
      const written = options.multiplexed === undefined
        ? limits
        : { ...limits, multiplexed: yield* checkedServiceName("multiplexed", options.multiplexed) }
      const serializer = new Serializer(sink, reader(limits), writer(written))
      yield* Metrics.show(yield* Stack, ...serializer.series(service.key))
      if (![undefined, "refuse", "await"].includes(options.oneway)) {
        return yield* new InvalidOption({ option: "oneway", got: options.oneway, expected: `"refuse" or "await"` })
      }
      const idempotent = yield* idempotentMethods(service.definition, options.idempotent)
      const answered = family.id !== ThriftWire.id
      const methods: Record<string, (...args: ReadonlyArray<unknown>) => Effect.Effect<unknown, unknown>> = {}
      for (const method of service.definition.methods.values()) {
        const called = {
          name: method.name,
          idempotent: idempotent.has(method.name),
          classify: classifyExit,
          span: Tracing.rpcSpan("thrift", service.definition.name, method.name)
        }
        methods[method.name] = method.oneway && answered && options.oneway !== "await"
          ? () =>
            Effect.fail(
              new Unsendable({ what: `${method.name} is oneway, and this wire answers every call`, cause: undefined })
            )
          : (...args) =>
            dispatch(
              called,
              (call) => serializer.send(method, args, call),
              serializer.direct && ((call, done) => serializer.sendDirect(method, args, call, done))
            )
      }
      return methods as typeof service.Service
    })
  )

const idempotentMethods = (
  { methods, name: service }: ServiceDefinition,
  names: ReadonlyArray<string> = []
): Effect.Effect<ReadonlySet<string>, InvalidOption> => {
  const got = names.find((name) => !methods.has(name))
  return got === undefined
    ? Effect.succeed(new Set(names))
    : Effect.fail(
      new InvalidOption({
        option: "idempotent",
        got,
        expected: `methods of ${service}: ${[...methods.keys()].join(", ")}`
      })
    )
}

/** A request as it leaves. A class, not a literal, as it lives as long as its call: see `BegunCall` in core's `Dispatcher.ts`. */
class Request implements ThriftRequest {
  readonly body: Uint8Array
  readonly method: string
  readonly sequenceId: number
  readonly oneway: boolean

  constructor(body: Uint8Array, { name, oneway }: MethodDefinition, sequenceId: number) {
    this.body = body
    this.method = name
    this.sequenceId = sequenceId
    this.oneway = oneway
  }
}

/** Arguments to bytes, bytes to a result. One reader and one writer serve all calls: neither is held over a wait. */
class Serializer {
  readonly #sink: MessageSink<ThriftRequest, ThriftResponse, RpcError>
  readonly #reader: ProtocolReader
  readonly #writer: ProtocolWriter
  #sequenceId = 0
  #requestBytes = 0
  #responseBytes = 0
  #serializationFailures = 0
  #deserializationFailures = 0
  /** The direct way down, if there is one. */
  readonly direct: Direct.Direct<ThriftRequest, ThriftResponse, RpcError> | undefined

  constructor(
    sink: MessageSink<ThriftRequest, ThriftResponse, RpcError>,
    reader: ProtocolReader,
    writer: ProtocolWriter
  ) {
    this.#sink = sink
    this.direct = Direct.through(sink)
    this.#reader = reader
    this.#writer = writer
  }

  series(service: string): ReadonlyArray<Metrics.Series> {
    const attributes = { service }
    return [
      Metrics.value(table["scales.thrift.request_payload_bytes"], () => this.#requestBytes, attributes),
      Metrics.value(table["scales.thrift.response_payload_bytes"], () => this.#responseBytes, attributes),
      Metrics.value(table["scales.thrift.serialization_failures"], () => this.#serializationFailures, attributes),
      Metrics.value(table["scales.thrift.deserialization_failures"], () => this.#deserializationFailures, attributes)
    ]
  }

  send(method: MethodDefinition, args: ReadonlyArray<unknown>, call: Call): Effect.Effect<unknown, unknown> {
    const request = this.#encode(method, args)
    return request instanceof ThriftEncodeError
      ? Effect.fail(request)
      : Effect.flatMap(this.#sink.send(request, call), (response) => this.#decode(method, response.body))
  }

  /** The same the direct way, when there is one: `false` says that nothing was done. */
  sendDirect(
    method: MethodDefinition,
    args: ReadonlyArray<unknown>,
    call: Call,
    done: Direct.Done<unknown, unknown>
  ): boolean {
    const before = this.#sequenceId
    const request = this.#encode(method, args)
    if (request instanceof ThriftEncodeError) {
      done(Exit.fail(request))
      return true
    }
    const begun = this.direct!(request, call, (exit) => {
      done(exit._tag === "Success" ? this.#decode(method, exit.value.body) : exit)
    })
    // It goes by `send`, with the same number.
    if (!begun && this.#sequenceId === request.sequenceId) {
      this.#sequenceId = before
      this.#requestBytes -= request.body.length
    }
    return begun
  }

  #encode(method: MethodDefinition, args: ReadonlyArray<unknown>): ThriftRequest | ThriftEncodeError {
    const sequenceId = this.#sequenceId = this.#sequenceId % 0x7fffffff + 1
    try {
      this.#writer.reset()
      method.encodeCall(sequenceId, args, this.#writer)
      const body = this.#writer.take()
      this.#requestBytes += body.length
      return new Request(body, method, sequenceId)
    } catch (error) {
      this.#serializationFailures++
      if (error instanceof ThriftEncodeError) return error
      throw error
    }
  }

  #decode(method: MethodDefinition, body: Uint8Array): Reply {
    this.#responseBytes += body.length
    // A oneway method that is answered is answered with nothing.
    if (method.oneway && body.length === 0) return Exit.void
    const reader = this.#reader
    try {
      return decodeReply(method, reader.reset(body))
    } catch (error) {
      this.#deserializationFailures++
      return Exit.fail(protocolErrorOf(error, reader))
    }
  }
}

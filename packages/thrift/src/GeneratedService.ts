/**
 * The definition of a service from the module that Apache's compiler generates for it (`js:node,es6`, 0.17 to 0.24).
 *
 * The structs of a method's arguments and result are private to the module, and so is the list of exceptions. What is public
 * writes and reads them: `send_x` and `recv_x` of the client, `process_x` of the processor. They are called here with a `this`
 * of ours, which hands them our protocol and catches what they would pass on. Which functions those are is found out once, when
 * the definition is made; a call goes straight to them.
 */
import * as Exit from "effect/Exit"
import { BinaryReader } from "./BinaryReader.ts"
import { ApplicationExceptionType, ThriftApplicationException, ThriftEncodeError, ThriftException } from "./errors.ts"
import { MessageType, type ProtocolReader, type ProtocolWriter } from "./Protocol.ts"
import { type MethodDefinition, protocolErrorOf, type Reply, type ServiceDefinition } from "./ServiceDefinition.ts"

/** A module that Apache's compiler wrote for a service: `import * as EchoGen from "./gen/Echo.js"`. */
export interface GeneratedModule {
  readonly Client: abstract new(...args: ReadonlyArray<never>) => object
  readonly Processor: abstract new(...args: ReadonlyArray<never>) => object
}

/** Finds the methods of a generated service, its own and those that it inherits. It is named as in the IDL. */
export const fromGenerated = (module: GeneratedModule): ServiceDefinition => {
  const client = module.Client.prototype as Record<string, unknown>
  const processor = module.Processor.prototype as Record<string, unknown>
  const methods = new Map<string, MethodDefinition>()
  for (let owner = client; owner !== null && owner !== Object.prototype; owner = Object.getPrototypeOf(owner)) {
    for (const property of Object.getOwnPropertyNames(owner)) {
      const method = property.startsWith("send_") ? property.slice(5) : ""
      // A method that is itself called send_something has no method called something
      if (method === "" || methods.has(method) || typeof client[method] !== "function") continue
      methods.set(method, new GeneratedMethod(method, client, processor))
    }
  }
  // Both compilers call the class of the client EchoClient
  return { name: module.Client.name.replace(/Client$/, ""), methods }
}

type Send = (this: ClientSide, ...args: ReadonlyArray<unknown>) => void
type Receive = (this: ClientSide, input: ProtocolReader, type: number, request: string) => void
type Process = (this: ServerSide, sequenceId: number, input: ProtocolReader, output: ProtocolWriter) => void
type Handler = (...args: Array<any>) => void
type Callback = (error: unknown, value?: unknown) => void

/** What `send_x` and `recv_x` use of a generated client. */
interface ClientSide {
  readonly pClass: new() => ProtocolWriter | undefined
  readonly output: { readonly flush: () => void }
  readonly _reqs: Record<string, Callback>
  readonly seqid: () => number
}

/** What `process_x` uses of a generated processor. */
interface ServerSide {
  readonly _handler: Record<string, Handler>
}

/** A constructor that makes nothing new. */
const newable = <A>(current: () => A): new() => A =>
  function() {
    return current()
  } as never

const nothing = (): void => {}

const stopByte = new Uint8Array(1)

class GeneratedMethod implements MethodDefinition {
  readonly name: string
  readonly oneway: boolean
  private readonly isVoid: boolean
  private readonly send: Send
  private readonly receive: Receive
  private readonly process: Process
  private readonly client: ClientSide
  private readonly decoding: ServerSide
  private readonly encoding: ServerSide
  /** A struct with no fields: what `process_x` is given to read when only its callback is wanted. */
  private readonly empty = new BinaryReader()

  // What the generated functions ask for or hand over while one of them runs; they are synchronous
  private writer: ProtocolWriter | undefined
  private sequenceId = 0
  private error: unknown
  private value: unknown
  private args: Array<unknown> = []

  constructor(name: string, client: Record<string, unknown>, processor: Record<string, unknown>) {
    this.name = name
    this.send = client[`send_${name}`] as Send
    this.receive = client[`recv_${name}`] as Receive
    this.process = processor[`process_${name}`] as Process
    this.oneway = this.receive === undefined
    this.client = {
      pClass: newable(() => this.writer),
      output: { flush: nothing },
      // The callback is inherited: generated code deletes it after each reply
      _reqs: Object.create({
        reply: (error: unknown, value: unknown) => {
          this.error = error
          this.value = value
        }
      }),
      seqid: () => this.sequenceId
    }
    this.decoding = serverSide(name, (...args) => {
      this.args = args
    })
    this.encoding = serverSide(name, (...args) => {
      const callback = args[args.length - 1] as Callback
      callback(this.error, this.value)
    })
    this.isVoid = this.oneway || Exit.isSuccess(this.decodeResult(this.empty.reset(stopByte)))
  }

  encodeCall(sequenceId: number, args: ReadonlyArray<unknown>, writer: ProtocolWriter): void {
    writer.reset()
    this.writer = writer
    this.sequenceId = sequenceId
    try {
      this.send.apply(this.client, args as Array<unknown>)
    } catch (error) {
      writer.reset()
      throw encodeErrorOf(error)
    } finally {
      this.writer = undefined
    }
  }

  decodeResult(reader: ProtocolReader): Reply {
    if (this.oneway) return Exit.void
    // A generated exception captures a stack trace when it is made: 10 microseconds for a stack of ours (measured)
    const limit = Error.stackTraceLimit
    Error.stackTraceLimit = 0
    try {
      this.receive.call(this.client, reader, MessageType.REPLY, "reply")
    } catch (error) {
      return Exit.fail(protocolErrorOf(error, reader))
    } finally {
      Error.stackTraceLimit = limit
    }
    const error = this.error
    const value = this.value
    this.error = undefined
    this.value = undefined
    if (error === null) return value === undefined ? Exit.void : Exit.succeed(value)
    // Generated code reports a result without any field as a string
    if (typeof error === "string") {
      return Exit.fail(
        new ThriftApplicationException({
          type: ApplicationExceptionType.MISSING_RESULT,
          message: `${this.name}: the reply has neither a result nor a declared exception`
        })
      )
    }
    return Exit.fail(new ThriftException({ exception: error }))
  }

  decodeArguments(reader: ProtocolReader): Array<unknown> {
    try {
      this.process.call(this.decoding, 0, reader, undefined as never)
    } catch (error) {
      throw protocolErrorOf(error, reader)
    }
    const args = this.args
    this.args = []
    if (!this.oneway) args.pop()
    return args
  }

  encodeResult(sequenceId: number, value: unknown, writer: ProtocolWriter): void {
    if (!this.isVoid && (value === undefined || value === null)) {
      throw new ThriftEncodeError({ reason: "MissingResult", message: `${this.name}: no result to write` })
    }
    this.encodeReply(sequenceId, null, this.isVoid ? undefined : value, writer)
  }

  encodeException(sequenceId: number, exception: unknown, writer: ProtocolWriter): boolean {
    const thrown = exception instanceof ThriftException ? exception.exception : exception
    if (typeof thrown !== "object" || thrown === null) return false
    try {
      this.encodeReply(sequenceId, thrown, undefined, writer)
    } catch (error) {
      if (writer.messageType !== MessageType.EXCEPTION) {
        writer.reset()
        throw error
      }
    }
    if (writer.messageType === MessageType.REPLY) return true
    writer.reset()
    return false
  }

  private encodeReply(sequenceId: number, error: unknown, value: unknown, writer: ProtocolWriter): void {
    if (this.oneway) return
    writer.reset()
    this.error = error
    this.value = value
    // For an exception that is not declared, generated code makes one of Apache's, with its stack trace
    const limit = Error.stackTraceLimit
    Error.stackTraceLimit = 0
    try {
      this.process.call(this.encoding, sequenceId, this.empty.reset(stopByte), writer)
    } catch (cause) {
      if (error === null) writer.reset()
      throw encodeErrorOf(cause)
    } finally {
      Error.stackTraceLimit = limit
      this.error = undefined
      this.value = undefined
    }
  }
}

/** A processor with one handler. Of the handler's two styles, the length that is no number of arguments asks for the callback. */
const serverSide = (method: string, handler: Handler): ServerSide => ({
  _handler: { [method]: Object.defineProperty(handler, "length", { value: -1 }) }
})

const encodeErrorOf = (error: unknown): ThriftEncodeError =>
  error instanceof ThriftEncodeError ? error : new ThriftEncodeError({
    reason: "InvalidStruct",
    message: error instanceof Error ? error.message : String(error),
    cause: error
  })

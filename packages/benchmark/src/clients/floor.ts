/**
 * The floor: what the bytes of a call cost in this language. A mux client by hand, on a socket and the codec that ours uses, and
 * nothing else: no deadline, no balancer, no retry, no interruption, one connection that must not break.
 */
import { FrameReader, FrameWriter, Message as Mux } from "@scales-rpc/mux"
import { BinaryReader, BinaryWriter, decodeReply, type MethodDefinition, type Reply } from "@scales-rpc/thrift"
import * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"
import * as Net from "node:net"
import type { Client, Load } from "../Load.ts"
import { Echo, type Message, message, method } from "../workload.ts"

const probe = { _tag: "Rerr", tag: Mux.controlTag, why: "tinit check" } as const
const init = { _tag: "Tinit", tag: Mux.controlTag, version: Mux.version, headers: [] } as const
const none: ReadonlyArray<never> = []

class Connection {
  readonly #socket: Net.Socket
  readonly #frames: FrameWriter
  readonly #reader = new FrameReader()
  readonly #method: MethodDefinition = Echo.definition.methods.get(method)!
  readonly #encoder = new BinaryWriter()
  readonly #decoder = new BinaryReader()
  /** Who waits, by tag. */
  readonly #waiting: Array<((reply: Reply) => void) | undefined> = []
  readonly #free: Array<number> = []
  #nextTag: number = Mux.minTag
  #sequenceId = 0
  readonly #onReady: () => void

  constructor(socket: Net.Socket, onReady: () => void, onLost: (cause: Error) => void) {
    this.#socket = socket
    this.#onReady = onReady
    this.#frames = new FrameWriter({ write: (chunk) => socket.write(chunk) })
    socket.on("connect", () => void this.#frames.send(probe))
    socket.on("data", (chunk: Buffer) => this.#reader.push(chunk, this.#onFrame))
    socket.on("drain", () => this.#frames.drained())
    socket.on("error", onLost)
    socket.on("close", () => onLost(new Error("the server closed the connection")))
  }

  call(argument: Message, done: (reply: Reply) => void): void {
    const tag = this.#free.pop() ?? this.#nextTag++
    this.#waiting[tag] = done
    this.#sequenceId = (this.#sequenceId + 1) & 0x7fffffff
    this.#encoder.reset()
    this.#method.encodeCall(this.#sequenceId, [argument], this.#encoder)
    this.#frames.send({
      _tag: "Tdispatch",
      tag,
      contexts: none,
      destination: "",
      dtab: none,
      body: this.#encoder.take()
    })
  }

  end(): void {
    this.#socket.destroy()
  }

  readonly #onFrame = (type: number, tag: number, body: Uint8Array): void => {
    switch (type) {
      case Mux.Type.Rdispatch: {
        const done = this.#waiting[tag]
        if (done === undefined || body[0] !== Mux.Status.Ok || body[1] !== 0 || body[2] !== 0) {
          throw new Error(`an Rdispatch of tag ${tag} that is not the reply to a call`)
        }
        this.#waiting[tag] = undefined
        this.#free.push(tag)
        return done(decodeReply(this.#method, this.#decoder.reset(body.subarray(3))))
      }
      case Mux.Type.OldRerr:
        return void this.#frames.send(init)
      case Mux.Type.Rinit:
        return this.#onReady()
      case Mux.Type.Tping:
        return void this.#frames.send({ _tag: "Rping", tag })
      default:
        throw new Error(`a frame of type ${type}`)
    }
  }
}

/** Connects to a mux server on this machine and shakes hands. */
export const connect = async (port: number): Promise<Client> => {
  const opened = Promise.withResolvers<void>()
  let onLost: (cause: Error) => void = opened.reject
  const socket = Net.connect({ host: "127.0.0.1", port, noDelay: true })
  const connection = new Connection(socket, opened.resolve, (cause) => onLost(cause))
  await opened.promise

  const drive = (inFlight: number, load: Load) =>
    new Promise<void>((resolve, reject) => {
      onLost = reject
      let loops = inFlight
      const onReply = (reply: Reply): void => {
        if (Exit.isFailure(reply)) return reject(Cause.squash(reply.cause))
        try {
          load.accept(reply.value as Message)
        } catch (error) {
          return reject(error)
        }
        if (load.running) connection.call(message, onReply)
        else if (--loops === 0) resolve()
      }
      for (let i = 0; i < inFlight; i++) connection.call(message, onReply)
    })

  return {
    drive,
    close: async () => {
      onLost = () => {}
      connection.end()
    }
  }
}

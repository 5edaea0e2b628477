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
import { Echo, type Message, method } from "../workload.ts"

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
    this.#frames = new FrameWriter({
      write: (chunk) => socket.write(chunk),
      taken: () => socket.writableLength === 0
    })
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

/** One connection to a mux server on this machine, hands shaken; `onLost` hears of its end. */
const open = async (port: number, onLost: (cause: Error) => void): Promise<Connection> => {
  const opened = Promise.withResolvers<void>()
  const socket = Net.connect({ host: "127.0.0.1", port, noDelay: true })
  const connection = new Connection(socket, opened.resolve, (cause) => {
    opened.reject(cause)
    onLost(cause)
  })
  await opened.promise
  return connection
}

/** Connects to each of the servers; with several they are used in turn, call by call. */
export const connect = async (...ports: ReadonlyArray<number>): Promise<Client> => {
  let onLost: (cause: Error) => void = () => {}
  const connections = await Promise.all(ports.map((port) => open(port, (cause) => onLost(cause))))
  let next = 0
  const call = (argument: Message, done: (reply: Reply) => void): void => {
    const connection = connections[next]!
    next = next + 1 === connections.length ? 0 : next + 1
    connection.call(argument, done)
  }

  const loop = (load: Load, ended: () => void, failed: (error: unknown) => void): void => {
    const { message } = load.work
    let began = load.begin()
    const onReply = (reply: Reply): void => {
      if (Exit.isFailure(reply)) return failed(Cause.squash(reply.cause))
      try {
        load.end(began, reply.value as Message)
      } catch (error) {
        return failed(error)
      }
      if (!load.running) return ended()
      began = load.begin()
      call(message, onReply)
    }
    call(message, onReply)
  }

  return {
    drive: (inFlight, load) =>
      new Promise((resolve, reject) => {
        onLost = reject
        let loops = inFlight
        const ended = () => {
          if (--loops === 0) resolve()
        }
        for (let i = 0; i < inFlight; i++) loop(load, ended, reject)
      }),
    begin: ({ message }, ended) => {
      call(message, (reply) => {
        if (Exit.isSuccess(reply)) ended(undefined, reply.value as Message)
        else ended(Cause.squash(reply.cause), undefined)
      })
    },
    close: async () => {
      onLost = () => {}
      for (const connection of connections) connection.end()
    }
  }
}

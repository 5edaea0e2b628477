/**
 * A tap on the wire between a client and a server of 127.0.0.1: counts the frames and passes everything on, or other frames in place
 * of a client's, so that a stock server can be made to say what no stock client makes it say.
 */
import { FrameReader, Message } from "@scales-rpc/mux"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"

/** The application messages of one direction. */
export interface Frames {
  /** Frames that others of their message follow. */
  fragments: number
  /** Bytes of the largest frame without size, type and tag. */
  largest: number
}

/** Where clients connect, and what has passed since. */
export interface Tap {
  readonly address: string
  readonly requests: Frames
  readonly replies: Frames
  /** How many clients have connected. */
  readonly connections: () => number
  /** How many of them are connected: one that hung up, or heard that the server did and hung up too, is not. */
  readonly connected: () => number
}

const count = (frames: Frames) => (type: number, tag: number, body: Uint8Array): void => {
  if (type !== Message.Type.Tdispatch && type !== Message.Type.Rdispatch) return
  if ((tag & Message.fragmentBit) !== 0) frames.fragments++
  frames.largest = Math.max(frames.largest, body.length)
}

/** Frames, size and all, to pass on in place of one; `undefined`: that one. */
export type Change = (type: number, tag: number, body: Uint8Array) => ReadonlyArray<Uint8Array> | undefined

/** A frame with its size. */
export const frame = (type: number, tag: number, body: string | Uint8Array = ""): Buffer => {
  const header = Buffer.alloc(8)
  const bytes = Buffer.from(body)
  header.writeInt32BE(bytes.length + 4, 0)
  header.writeInt32BE((type << 24) | tag, 4)
  return Buffer.concat([header, bytes])
}

const pass = (from: Net.Socket, to: Net.Socket, frames: Frames, change?: Change): void => {
  const reader = new FrameReader()
  const counted = count(frames)
  const taken = change === undefined ? counted : (type: number, tag: number, body: Uint8Array): void => {
    counted(type, tag, body)
    for (const changed of change(type, tag, body) ?? [frame(type, tag, body)]) to.write(changed)
  }
  from.on("data", (chunk) => reader.push(chunk, taken)).on("error", () => to.destroy())
  if (change === undefined) from.pipe(to)
  else from.on("end", () => to.end())
}

/** A tap in front of a port, for as long as the scope is open. */
export const make = (port: number, change?: Change): Effect.Effect<Tap, never, Scope.Scope> =>
  Effect.gen(function*() {
    const requests = { fragments: 0, largest: 0 }
    const replies = { fragments: 0, largest: 0 }
    const sockets = new Set<Net.Socket>()
    let connections = 0
    let connected = 0
    const server = Net.createServer((client) => {
      connections++
      connected++
      client.on("close", () => connected--)
      const upstream = Net.connect({ host: "127.0.0.1", port, noDelay: true })
      for (const socket of [client, upstream]) sockets.add(socket)
      pass(client, upstream, requests, change)
      pass(upstream, client, replies)
    })
    yield* Effect.acquireRelease(
      Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
      () =>
        Effect.callback<void>((resume) => {
          server.close(() => resume(Effect.void))
          for (const socket of sockets) socket.destroy()
        })
    )
    return {
      address: `127.0.0.1:${(server.address() as Net.AddressInfo).port}`,
      requests,
      replies,
      connections: () => connections,
      connected: () => connected
    }
  })

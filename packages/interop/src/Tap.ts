/** A tap on the wire between a client and a server of 127.0.0.1: passes everything on and counts the frames. */
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
}

const count = (frames: Frames) => (type: number, tag: number, body: Uint8Array): void => {
  if (type !== Message.Type.Tdispatch && type !== Message.Type.Rdispatch) return
  if ((tag & Message.fragmentBit) !== 0) frames.fragments++
  frames.largest = Math.max(frames.largest, body.length)
}

const pass = (from: Net.Socket, to: Net.Socket, frames: Frames): void => {
  const reader = new FrameReader()
  const counted = count(frames)
  from.on("data", (chunk) => reader.push(chunk, counted)).on("error", () => to.destroy())
  from.pipe(to)
}

/** A tap in front of a port, for as long as the scope is open. */
export const make = (port: number): Effect.Effect<Tap, never, Scope.Scope> =>
  Effect.gen(function*() {
    const requests = { fragments: 0, largest: 0 }
    const replies = { fragments: 0, largest: 0 }
    const sockets = new Set<Net.Socket>()
    const server = Net.createServer((client) => {
      const upstream = Net.connect({ host: "127.0.0.1", port, noDelay: true })
      for (const socket of [client, upstream]) sockets.add(socket)
      pass(client, upstream, requests)
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
    return { address: `127.0.0.1:${(server.address() as Net.AddressInfo).port}`, requests, replies }
  })

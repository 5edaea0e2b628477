/** Watches what mux clients and servers say to each other on a network in memory, message by message. */
import { type MemoryConnection, type MemoryDirection, MemoryNetwork } from "@scales-rpc/core/testing"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { MuxDecodeError } from "../CodecError.ts"
import { decode } from "../Decode.ts"
import { Fragments } from "../Fragments.ts"
import { FrameReader } from "../FrameReader.ts"
import { maxTag, type Message } from "../Message.ts"

/** What a message is: `Tdispatch`, `Rping`, ... */
export type MessageKind = Message["_tag"]

/** One message that was sent, when the last of it was. */
export interface SentMessage<Kind extends MessageKind = MessageKind> {
  readonly message: Extract<Message, { readonly _tag: Kind }>
  readonly from: "client" | "server"
  readonly connection: MemoryConnection
  /** In how many frames: more than one for a message that was sent in fragments. */
  readonly frames: number
  /** Milliseconds of the `Clock`. */
  readonly at: number
}

/** What has been sent since the record began, on connections made since then. */
export interface MuxFrames {
  /** Every message, in the order they were sent. Live. */
  readonly sent: ReadonlyArray<SentMessage>
  /** Those of one kind, and from one side if it is said. */
  readonly of: <Kind extends MessageKind>(kind: Kind, from?: "client" | "server") => ReadonlyArray<SentMessage<Kind>>
  /** Waits until so many messages of one kind have been sent, one by default, and gives them. */
  readonly seen: <Kind extends MessageKind>(
    kind: Kind,
    times?: number
  ) => Effect.Effect<ReadonlyArray<SentMessage<Kind>>>
}

/** Begins a record, which ends with the scope. What a connection says once it is no mux (any more: it may be secured) is left out. */
export const record: Effect.Effect<MuxFrames, never, MemoryNetwork | Scope.Scope> = Effect.gen(function*() {
  const network = yield* MemoryNetwork
  const clock = yield* Clock.Clock
  const sent: Array<SentMessage> = []
  let waiting: Array<() => void> = []

  const watch = (connection: MemoryConnection, from: "client" | "server", direction: MemoryDirection): void => {
    const reader = new FrameReader()
    const fragments = new Fragments()
    const frames = new Map<number, number>()
    const off = direction.onChunk((chunk) => {
      try {
        reader.push(chunk, (type, tagBits, body) => {
          const tag = tagBits & maxTag
          const count = (frames.get(tag) ?? 0) + 1
          frames.set(tag, count)
          const whole = fragments.push(type, tagBits, body)
          if (whole === undefined) return
          frames.delete(tag)
          const message = decode(type, tag, whole)
          sent.push({ message, from, connection, frames: count, at: clock.currentTimeMillisUnsafe() })
          for (const look of waiting.slice()) look()
        })
      } catch (error) {
        if (!(error instanceof MuxDecodeError)) throw error
        off()
      }
    })
  }

  yield* Effect.acquireRelease(
    Effect.sync(() =>
      network.onConnection((connection) => {
        watch(connection, "client", connection.toServer)
        watch(connection, "server", connection.toClient)
      })
    ),
    (off) => Effect.sync(off)
  )

  const of: MuxFrames["of"] = <Kind extends MessageKind>(kind: Kind, from?: "client" | "server") =>
    sent.filter((each) => each.message._tag === kind && (from === undefined || each.from === from)) as ReadonlyArray<
      unknown
    > as ReadonlyArray<SentMessage<Kind>>
  return {
    sent,
    of,
    seen: <Kind extends MessageKind>(kind: Kind, times = 1) =>
      Effect.callback<ReadonlyArray<SentMessage<Kind>>>((resume) => {
        const leave = () => {
          waiting = waiting.filter((other) => other !== look)
        }
        const look = () => {
          const found = of(kind)
          if (found.length < times) return
          leave()
          resume(Effect.succeed(found))
        }
        waiting.push(look)
        look()
        return Effect.sync(leave)
      })
  }
})

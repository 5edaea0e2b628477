/**
 * A client of ZooKeeper that knows nothing of ours: the cases make, change and delete nodes with it, and take over and close the
 * sessions of others.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"
import { connectRequest, Frames, type Granted, granted, Op, read, type Reader, watchXid, Writer } from "./Wire.ts"

/** A request that failed with the server's code, or the end of the connection. */
export class ClientError extends Data.TaggedError("ClientError")<{ readonly what: string; readonly code: number }> {
  override get message(): string {
    return `${this.what} (${this.code})`
  }
}

/** Its operations. */
export interface Client {
  /** The path that was made. Everybody may do everything with it. Default: persistent. */
  readonly create: (path: string, data?: string | Uint8Array, flags?: number) => Effect.Effect<string, ClientError>
  /** The node and those above it; those that are there stay. */
  readonly ensure: (path: string) => Effect.Effect<void, ClientError>
  readonly set: (path: string, data: string | Uint8Array) => Effect.Effect<void, ClientError>
  readonly get: (path: string) => Effect.Effect<string, ClientError>
  readonly children: (path: string) => Effect.Effect<ReadonlyArray<string>, ClientError>
  /** Nobody but who has shown these credentials of the scheme `digest` may do anything with the node. */
  readonly protect: (path: string, digest: string) => Effect.Effect<void, ClientError>
  readonly delete: (path: string) => Effect.Effect<void, ClientError>
  /** The node and those below it. */
  readonly deleteAll: (path: string) => Effect.Effect<void, ClientError>
}

/** Of `create`. */
export const sequential = 2

const nodeExists = -110

const allPermissions = 31

/** In milliseconds. It pings nobody, so this is how long a case may do nothing with it. */
const sessionTimeout = 60_000

type Answer = (answer: Effect.Effect<Reader, ClientError>) => void

/** Connects to a server. */
export const connect = (port: number): Effect.Effect<Client, ClientError, Scope.Scope> =>
  Effect.gen(function*() {
    const waiting = new Map<number, Answer>()
    let lastXid = 0
    const socket = yield* Effect.acquireRelease(
      Effect.sync(() => Net.connect({ port, host: "127.0.0.1", noDelay: true })),
      (socket) => Effect.sync(() => void socket.end(new Writer().int(++lastXid).int(Op.close).frame()))
    )
    const lost = new ClientError({ what: "the connection is lost", code: -4 })
    const frames = new Frames()
    yield* Effect.callback<void, ClientError>((resume) => {
      let connected = false
      socket.on("data", (chunk) => {
        for (const frame of frames.push(chunk)) {
          if (connected) answered(frame)
          else {
            connected = true
            resume(Effect.void)
          }
        }
      })
      socket.on("error", () => {})
      socket.on("close", () => {
        resume(Effect.fail(lost))
        for (const answer of waiting.values()) answer(Effect.fail(lost))
        waiting.clear()
      })
      socket.write(connectRequest(sessionTimeout))
    })
    const answered = (frame: Buffer): void => {
      const reader = read(frame)
      const xid = reader.int()
      if (xid === watchXid) return
      reader.long()
      const code = reader.int()
      const answer = waiting.get(xid)
      waiting.delete(xid)
      answer?.(code === 0 ? Effect.succeed(reader) : Effect.fail(new ClientError({ what: "refused", code })))
    }
    const request = (op: number, body: (writer: Writer) => Writer): Effect.Effect<Reader, ClientError> =>
      Effect.callback((resume) => {
        if (socket.destroyed) return resume(Effect.fail(lost))
        const xid = ++lastXid
        waiting.set(xid, resume)
        socket.write(body(new Writer().int(xid).int(op)).frame())
      })
    const bytes = (data: string | Uint8Array) => typeof data === "string" ? Buffer.from(data) : data

    const create: Client["create"] = (path, data = "", flags = 0) =>
      Effect.map(
        request(
          Op.create,
          (writer) =>
            writer.text(path).buffer(bytes(data)).int(1).int(allPermissions).text("world").text("anyone").int(flags)
        ),
        (reader) => reader.text()
      )
    const children: Client["children"] = (path) =>
      Effect.map(
        request(Op.children, (writer) => writer.text(path).bool(false)),
        (reader) => Array.from({ length: reader.int() }, () => reader.text())
      )
    const remove = (path: string) => Effect.asVoid(request(Op.delete, (writer) => writer.text(path).int(-1)))
    const deleteAll: Client["deleteAll"] = (path) =>
      Effect.gen(function*() {
        const below = yield* children(path)
        yield* Effect.forEach(below, (name) => deleteAll(`${path}/${name}`), { concurrency: 100, discard: true })
        yield* remove(path)
      })
    return {
      create,
      ensure: (path) =>
        Effect.forEach(
          path.split("/").slice(1).map((_, i, names) => `/${names.slice(0, i + 1).join("/")}`),
          (part) =>
            Effect.catchIf(
              Effect.asVoid(create(part)),
              ({ code }) => code === nodeExists,
              () => Effect.void
            ),
          { discard: true }
        ),
      set: (path, data) => Effect.asVoid(request(Op.set, (writer) => writer.text(path).buffer(bytes(data)).int(-1))),
      get: (path) => Effect.map(request(Op.get, (writer) => writer.text(path).bool(false)), (reader) => reader.text()),
      children,
      protect: (path, digest) =>
        Effect.asVoid(
          request(
            Op.setAcl,
            (writer) => writer.text(path).int(1).int(allPermissions).text("digest").text(digest).int(-1)
          )
        ),
      delete: remove,
      deleteAll
    }
  })

/**
 * Takes over the session of another and closes it, in one go, until the server says that there is no such session: its owner takes it back as
 * soon as it hears of it, and may be faster.
 */
export const closeSession = (port: number, session: Granted): Effect.Effect<void> =>
  Effect.flatMap(
    Effect.callback<boolean>((resume) => {
      let first: Granted | undefined
      const frames = new Frames()
      const socket = Net.connect({ port, host: "127.0.0.1", noDelay: true })
      socket.on("data", (chunk) => {
        const [frame] = frames.push(chunk)
        if (frame !== undefined) first ??= granted(frame)
      })
      socket.on("error", () => {})
      // Most often the server hangs up when the session is closed.
      socket.setTimeout(200, () => socket.destroy())
      socket.on("close", () => resume(Effect.succeed(first?.timeout === 0)))
      const close = new Writer().int(1).int(Op.close).frame()
      socket.write(Buffer.concat([connectRequest(sessionTimeout, session), close]))
      return Effect.sync(() => socket.destroy())
    }),
    (gone) => gone ? Effect.void : closeSession(port, session)
  )

/** A ZooKeeper server as a process of its own, which can be killed, frozen and started again on its port and its data. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { mkdirSync, writeFileSync } from "node:fs"
import * as Net from "node:net"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Maven from "../Maven.ts"
import { PeerError, start as startProgram } from "../Peer.ts"

/** The Maven project of the server. */
export const folder = fileURLToPath(new URL("../../zookeeper/server", import.meta.url))

/** The unit of the servers' clocks in milliseconds: sessions end on a multiple of it. */
export const tickMillis = 200

/** What the server says of itself: `mntr`, line by line. */
export type Facts = Readonly<Record<string, string>>

/** A server of 127.0.0.1. */
export interface Server {
  readonly port: number
  readonly address: string
  /** Begins to serve unless it does, and waits until it does: one of an ensemble serves when most of them are up. */
  readonly start: Effect.Effect<void, PeerError>
  /** Ends it at once, frozen or not. */
  readonly kill: Effect.Effect<void>
  /** Stops it where it is: its connections stay open, and nobody answers. */
  readonly freeze: Effect.Effect<void>
  /** Lets it go on. */
  readonly thaw: Effect.Effect<void>
  /** What it answers to one of its four-letter words. */
  readonly ask: (word: string) => Effect.Effect<string, PeerError>
  readonly facts: Effect.Effect<Facts, PeerError>
  /** How many watches it keeps for its clients. */
  readonly watches: Effect.Effect<number, PeerError>
}

/** How long a server may take to answer a word: one that is just starting swallows some. */
const answerWithin = "500 millis"

/** Asks a server, and reads until it hangs up. */
const ask = (port: number, word: string): Effect.Effect<string, PeerError> =>
  Effect.callback<string, PeerError>((resume) => {
    const socket = Net.connect({ port, host: "127.0.0.1" }, () => socket.write(word))
    let text = ""
    socket.setEncoding("utf8").on("data", (chunk: string) => (text += chunk))
    socket.on("error", ({ message }) => resume(Effect.fail(new PeerError({ what: `${word}: ${message}` }))))
    socket.on("close", () => resume(Effect.succeed(text)))
    return Effect.sync(() => socket.destroy())
  }).pipe(Effect.timeoutOrElse({
    duration: answerWithin,
    orElse: () => Effect.fail(new PeerError({ what: `${word}: no answer` }))
  }))

const factsOf = (text: string): Facts =>
  Object.fromEntries(text.split("\n").filter((line) => line.includes("\t")).map((line) => line.split("\t", 2)))

/** One of an ensemble. */
export interface Member {
  readonly id: number
  /** For the servers among themselves. */
  readonly ports: readonly [number, number]
}

const configuration = (data: string, port: number, members: ReadonlyArray<Member>): string =>
  [
    `tickTime=${tickMillis}`,
    `dataDir=${data}`,
    `clientPort=${port}`,
    "clientPortAddress=127.0.0.1",
    "admin.enableServer=false",
    "4lw.commands.whitelist=*",
    `minSessionTimeout=${2 * tickMillis}`,
    "maxSessionTimeout=60000",
    "maxClientCnxns=0",
    // In ticks: how long one may take to follow, and to answer the leader.
    "initLimit=15",
    "syncLimit=5",
    ...members.map(({ id, ports }) => `server.${id}=127.0.0.1:${ports.join(":")}`),
    ""
  ].join("\n")

/** A server that has not been started. It is killed when the scope closes; `directory` is its own. */
export const make = (
  directory: string,
  port: number,
  ensemble?: { readonly id: number; readonly members: ReadonlyArray<Member> }
): Effect.Effect<Server, never, Scope.Scope> =>
  Effect.gen(function*() {
    const data = join(directory, "data")
    mkdirSync(data, { recursive: true })
    if (ensemble !== undefined) writeFileSync(join(data, "myid"), String(ensemble.id))
    const file = join(directory, "zoo.cfg")
    writeFileSync(file, configuration(data, port, ensemble?.members ?? []))

    const outer = yield* Scope.Scope
    let running: { readonly pid: number; readonly life: Scope.Closeable } | undefined
    const signal = (pid: number, name: "SIGKILL" | "SIGSTOP" | "SIGCONT") =>
      // It may have ended by itself.
      Effect.ignore(Effect.try(() => process.kill(pid, name)))
    const toRunning = (name: "SIGSTOP" | "SIGCONT") =>
      Effect.suspend(() => running === undefined ? Effect.void : signal(running.pid, name))
    const kill = Effect.suspend(() => {
      if (running === undefined) return Effect.void
      const { life } = running
      running = undefined
      return Scope.close(life, Exit.void)
    })

    const facts = Effect.map(ask(port, "mntr"), factsOf)
    const serves = Effect.match(facts, {
      onFailure: () => false,
      onSuccess: (facts) => facts["zk_server_state"] !== undefined
    })
    // Asked again and again: there is nothing that a server tells when it begins to serve.
    const serving: Effect.Effect<void> = Effect.flatMap(
      serves,
      (yes) => yes ? Effect.void : Effect.andThen(Effect.sleep("20 millis"), serving)
    )
    const start = Effect.gen(function*() {
      if (running !== undefined) return yield* serving
      const life = yield* Scope.fork(outer)
      const peer = yield* Scope.provide(startProgram(Maven.program("ZooKeeper", folder, [file])), life)
      const pid: number = peer.ready.pid
      yield* Scope.addFinalizer(life, signal(pid, "SIGKILL"))
      running = { pid, life }
      yield* serving
    })
    return {
      port,
      address: `127.0.0.1:${port}`,
      start,
      kill,
      freeze: toRunning("SIGSTOP"),
      thaw: toRunning("SIGCONT"),
      ask: (word) => ask(port, word),
      facts,
      watches: Effect.map(facts, (facts) => Number(facts["zk_watch_count"]))
    }
  })

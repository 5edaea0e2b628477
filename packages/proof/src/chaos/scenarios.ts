/**
 * The faults, one scenario each, with what each may cost. Servers answer after 64 ms, so that with 1000 calls a second as many are in flight as
 * 64 callers have; a call has one second.
 */
import { Effect } from "effect"
import type { ChildServer, ServerLost } from "../soak/servers.ts"
import { type Mood, serviceMillis } from "./mood.ts"
import type { Bounds } from "./verdict.ts"

/** What a run is set to. */
export interface Settings {
  readonly servers: number
  /** Calls a second. */
  readonly rate: number
  /** How long a fault lasts. */
  readonly seconds: number
}

/** How long a call may take. */
export const timeoutMillis = 1000

/** What a scenario has of its run. */
export interface Stage {
  readonly fleet: ReadonlyArray<ChildServer>
  readonly settings: Settings
  /** The servers that most calls are on, by the client's own count. */
  readonly busiest: (count: number) => ReadonlyArray<ChildServer>
  /** Said just before a server is given its fault. */
  readonly faulty: (server: ChildServer) => Effect.Effect<void>
  /** Said as soon as it is well again. */
  readonly well: (server: ChildServer) => Effect.Effect<void>
  /** Waits, up to the time of a call, until the client has taken these out of use. */
  readonly found: (servers: ReadonlyArray<ChildServer>) => Effect.Effect<void>
}

/** One scenario. */
export interface Scenario {
  readonly name: string
  /** One sentence. */
  readonly does: string
  readonly play: (stage: Stage) => Effect.Effect<void, ServerLost>
  /** `faultMs` is how long the fault came to be, with the time that a server takes to start. */
  readonly bounds: (settings: Settings, faultMs: number) => Bounds
}

const impostor = new URL("./impostor.ts", import.meta.url)

const all = (servers: ReadonlyArray<ChildServer>, f: (server: ChildServer) => Effect.Effect<void, ServerLost>) =>
  Effect.forEach(servers, f, { concurrency: "unbounded", discard: true })

/** The fault lasts as long as it is set to. */
const lasting = ({ settings }: Stage) => Effect.sleep(settings.seconds * 1000)

/** Kills servers, and starts them again when the fault is over. */
const killing = (choose: (stage: Stage) => ReadonlyArray<ChildServer>) => (stage: Stage) =>
  all(choose(stage), (server) =>
    Effect.gen(function*() {
      yield* stage.faulty(server)
      yield* server.stop("SIGKILL")
      yield* lasting(stage)
      yield* server.restart
      yield* stage.well(server)
    }))

/** Kills one, and has something else listen on its port meanwhile. */
const replacing = (kind: "silent" | "garbage") => (stage: Stage) =>
  all(stage.busiest(1), (server) =>
    Effect.gen(function*() {
      yield* stage.faulty(server)
      yield* server.stop("SIGKILL")
      yield* server.replace(impostor, kind)
      yield* lasting(stage)
      yield* server.stop("SIGKILL")
      yield* server.restart
      yield* stage.well(server)
    }))

/** Tells a server, and waits until it has heard. */
const tell = (server: ChildServer, what: Mood | "reset") =>
  Effect.asVoid(server.ask(what, ({ done }: { readonly done?: string }) => done === what ? true : undefined))

const changing = (mood: Mood) => (stage: Stage) =>
  all(stage.busiest(1), (server) =>
    Effect.gen(function*() {
      yield* stage.faulty(server)
      yield* tell(server, mood)
      yield* lasting(stage)
      yield* tell(server, "well")
      yield* stage.well(server)
    }))

const slackMillis = 1000

/** How long the client waits for a handshake. */
const handshakeMillis = 1000

/** No call takes longer than it is given. */
const slowestMs = timeoutMillis + slackMillis

/**
 * The resurrector's delays are half as long as an endpoint has been down by then, and 250 ms; jittered by 20 % each way, at the most 0.75 times
 * as long, and 300 ms. None is longer than 10 s.
 */
const reconnected = (faultMs: number) => Math.min(0.75 * faultMs + 300, 10_000) + slackMillis

/** Failure accrual probes after 5 s, and at the most twice as long as an endpoint has been out of use. */
const probed = (faultMs: number) => Math.max(5000, 2 * faultMs) + slackMillis

/** How many probes a fault may meet: one each 5 s at the most, and one. */
const probes = (faultMs: number) => Math.floor(faultMs / 5000) + 1

/** How many calls are in flight, in all. */
const inFlight = ({ rate }: Settings) => Math.ceil(rate * serviceMillis / 1000)

/** A connection that breaks costs what was in flight on it, in its first second. */
const broke = (faultMs: number): Bounds => ({
  failures: "at risk",
  quietAfterMs: 1000,
  backAfterMs: reconnected(faultMs),
  slowestMs
})

/** How much of their throughput the servers without a fault must keep: they have all of the load then. */
const othersKept = 0.9

/**
 * A server that answers nothing but refusals or errors is found out by five in a row. Answers to what it had before come for one service time, and
 * each of them ends a row; as it answers at once, most of the calls of that time may go to it.
 */
const stormed = (settings: Settings, faultMs: number) => ({
  atRisk: 2 * inFlight(settings),
  foundOutMs: 1000,
  probes: probes(faultMs),
  backAfterMs: probed(faultMs),
  slowestMs,
  othersKept
})

/** All of them, in the order in which they run. */
export const scenarios: ReadonlyArray<Scenario> = [
  {
    name: "kill",
    does: "one is killed (SIGKILL) and started again",
    play: killing((stage) => stage.busiest(1)),
    bounds: (_, faultMs) => ({ ...broke(faultMs), othersKept })
  },
  {
    name: "freeze",
    does: "one is held (SIGSTOP) and let go (SIGCONT)",
    play: (stage) =>
      all(stage.busiest(1), (server) =>
        Effect.gen(function*() {
          yield* stage.faulty(server)
          yield* server.signal("SIGSTOP")
          yield* lasting(stage)
          yield* server.signal("SIGCONT")
          yield* stage.well(server)
        })),
    // It has as many calls as any other and answers none: five of them time out after a second, which is five in a row.
    bounds: (settings, faultMs) => ({
      failures: "at risk and probes",
      atRisk: inFlight(settings),
      foundOutMs: timeoutMillis + slackMillis,
      probes: probes(faultMs),
      quietAfterMs: 2 * timeoutMillis + slackMillis,
      backAfterMs: probed(faultMs),
      slowestMs,
      othersKept
    })
  },
  {
    name: "reset",
    does: "every connection of all is reset at once",
    play: (stage) =>
      Effect.gen(function*() {
        yield* all(stage.fleet, stage.faulty)
        yield* all(stage.fleet, (server) => tell(server, "reset"))
        yield* stage.found(stage.fleet)
        yield* all(stage.fleet, stage.well)
      }),
    bounds: (_, faultMs) => ({ ...broke(faultMs), backAfterMs: slackMillis })
  },
  {
    name: "silent",
    does: "one is killed, and what listens in its place accepts and says nothing",
    play: replacing("silent"),
    // An attempt to connect that waits for a handshake may just have begun when the server comes back.
    bounds: (_, faultMs) => ({
      ...broke(faultMs),
      backAfterMs: reconnected(faultMs) + handshakeMillis,
      othersKept
    })
  },
  {
    name: "slow",
    does: "one takes ten times as long",
    play: changing("slow"),
    bounds: () => ({ failures: "none", backAfterMs: slackMillis, slowestMs, othersKept })
  },
  {
    name: "errors",
    does: "one answers every call with an error, at once",
    play: changing("errors"),
    bounds: (settings, faultMs) => ({
      ...stormed(settings, faultMs),
      failures: "at risk and probes",
      quietAfterMs: 1000
    })
  },
  {
    name: "nacks",
    does: "one refuses every call, at once",
    play: changing("nacks"),
    // Another one takes them.
    bounds: (settings, faultMs) => ({ ...stormed(settings, faultMs), failures: "none" })
  },
  {
    name: "garbage",
    does: "one is killed, and what listens in its place answers garbage",
    play: replacing("garbage"),
    bounds: (_, faultMs) => ({ ...broke(faultMs), othersKept })
  },
  {
    name: "rolling",
    does: "all are drained (SIGTERM) and started again, one after another",
    play: (stage) =>
      Effect.forEach(stage.fleet, (server) =>
        Effect.gen(function*() {
          yield* stage.faulty(server)
          yield* server.stop("SIGTERM")
          yield* server.restart
          yield* stage.well(server)
        }), { discard: true }),
    bounds: (_, faultMs) => ({ failures: "none", backAfterMs: reconnected(faultMs), slowestMs })
  },
  {
    name: "half",
    does: "half of them, rounded up, are killed at once and started again",
    play: killing((stage) => stage.busiest(Math.ceil(stage.fleet.length / 2))),
    bounds: (_, faultMs) => ({ ...broke(faultMs), othersKept })
  },
  {
    name: "all",
    does: "all are killed at once and started again",
    play: killing((stage) => stage.fleet),
    bounds: (_, faultMs) => ({
      failures: "any",
      quietAfterBackMs: 500,
      backAfterMs: reconnected(faultMs),
      slowestMs
    })
  }
]

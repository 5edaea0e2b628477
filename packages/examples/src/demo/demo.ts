/** The demo: servers, callers, incidents, and what came of them. */
import { Stacks } from "@scales-rpc/core"
import { ThriftMux } from "@scales-rpc/thriftmux"
import { Cause, Effect, Exit, Fiber, Schedule } from "effect"
import Int64 from "node-int64"
import { Echo } from "../echo.ts"
import { Message } from "../../gen/echo_types.js"
import * as Fleet from "./fleet.ts"
import { incidents, type Met } from "./incidents.ts"
import { observe, type Observed } from "./observe.ts"
import type { DemoOptions } from "./options.ts"
import type * as Screen from "./screen.ts"
import * as Tally from "./tally.ts"

/** Calls until it is told to stop, and checks every reply. */
const caller = (id: number, tally: Tally.Tally, stopped: () => boolean) =>
  Effect.gen(function*() {
    const echo = yield* Echo
    for (let n = 0; !stopped(); n++) {
      const sent = new Message({ text: `caller ${id} call ${n}`, number: new Int64(n), items: [id, n] })
      tally.calls++
      const exit = yield* Effect.exit(echo.passMessage(sent))
      if (Exit.isSuccess(exit)) {
        const { items, number, text } = exit.value
        const right = text === sent.text && number.equals(sent.number) && items[0] === id && items[1] === n
        if (right) tally.ok++
        else tally.wrong++
      } else {
        const error = Cause.squash(exit.cause) as Error & { readonly _tag?: string }
        Tally.failure(tally, error._tag ?? "Defect", error.message)
        // A caller that meets a failure takes a breath, as callers do.
        yield* Effect.sleep("20 millis")
      }
    }
  })

const frame = (tally: Tally.Tally, observed: Observed, seconds: number, ended: boolean): Screen.Frame => ({
  seconds,
  period: ended ? "the whole run" : "the last second",
  calls: tally.calls,
  ok: tally.ok,
  failed: Tally.failures(tally),
  rows: observed.endpoints.map(({ endpoint, load, state }) => {
    const own = tally.endpoints.get(endpoint)
    const latencies = ended ? own?.whole : own?.before ?? own?.now
    const period = ended || own?.before === undefined ? seconds : 1
    return {
      endpoint,
      state,
      outstanding: load,
      calls: own?.calls ?? 0,
      callsPerSecond: (latencies?.count ?? 0) / period,
      p50: latencies?.percentile(0.5),
      p99: latencies?.percentile(0.99)
    }
  })
})

/** What the demo comes to. */
export interface Result {
  readonly tally: Tally.Tally
  readonly seconds: number
  /** The client once every caller had stopped. */
  readonly last: Observed
  /** `undefined` when the servers were not the demo's. */
  readonly met: Met | undefined
  readonly final: Screen.Frame
}

/** Runs it and shows it. */
export const demo = (options: DemoOptions, screen: Screen.Screen) =>
  Effect.gen(function*() {
    const fleet = options.uri === undefined
      ? yield* Effect.all(Array.from({ length: options.servers }, (_, index) => Fleet.start(index + 1)), {
        concurrency: "unbounded"
      })
      : []
    const uri = options.uri ?? `tcp://${fleet.map(({ address }) => address).join(",")}`
    const tally = Tally.make()
    const EchoLive = ThriftMux.layer(Echo, { uri, label: "demo", clientId: "demo", below: Tally.filter(tally) })
    const started = Date.now()
    const seconds = () => (Date.now() - started) / 1000

    return yield* Effect.gen(function*() {
      let stopped = false
      const show = Effect.map(observe, (observed) => screen.show(frame(tally, observed, seconds(), false)))
      yield* Effect.forkScoped(Effect.repeat(show, Schedule.spaced("250 millis")))
      const turn = Effect.andThen(Effect.sleep("1 second"), Effect.sync(() => Tally.turn(tally)))
      yield* Effect.forkScoped(Effect.forever(turn))
      const callers = yield* Effect.forkScoped(
        Effect.all(Array.from({ length: options.callers }, (_, id) => caller(id + 1, tally, () => stopped)), {
          concurrency: "unbounded",
          discard: true
        })
      )
      const scene = {
        fleet,
        seconds: options.seconds,
        event: (text: string) => screen.event(seconds(), text),
        lastReply: (server: Fleet.FleetServer) => tally.endpoints.get(server.address)?.lastReply ?? 0
      }
      const [met] = yield* Effect.all([
        fleet.length === 0 ? Effect.undefined : incidents(scene),
        Effect.sleep(options.seconds * 1000)
      ], { concurrency: "unbounded" })
      stopped = true
      yield* Fiber.join(callers)
      const ended = seconds()
      // Whoever gave up on a reply still owes the server's word on the tag: that much time it gets.
      const last = yield* Effect.repeat(observe, {
        schedule: Schedule.spaced("20 millis"),
        until: ({ loads, outstanding, tags }) => loads + outstanding + tags === 0,
        times: 100
      })
      return { tally, seconds: ended, last, met, final: frame(tally, last, ended, true) }
    }).pipe(Effect.scoped, Effect.provide(EchoLive), Effect.provide(Stacks.layer))
  }).pipe(Effect.scoped)

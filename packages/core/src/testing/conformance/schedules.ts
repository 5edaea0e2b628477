/** Schedules that nobody thought of: the set changes, endpoints fail and heal, calls come, leave and end, in any order. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { Nacked, type RpcError } from "../../RpcError.ts"
import { ServerSetState } from "../../ServerSet.ts"
import { type Case, worldOf } from "./Case.ts"
import { host, hosts } from "./family.ts"
import { causeOf } from "./Mismatch.ts"
import { type Exchange, replyTo } from "./ScriptedEndpoints.ts"
import type { Placed, World } from "./World.ts"

const defect = "a bug below the balancer"

/** What a call may fail with when everything may happen. */
const failures = new Set([
  "Timeout",
  "Superseded",
  "StackClosed",
  "NoEndpoints",
  "ConnectFailed",
  "ConnectionClosed",
  "Nacked"
])

/** One schedule, with what must hold between its steps, and at its end. */
const schedule = (world: World) =>
  Effect.gen(function*() {
    const { endpoints, random } = world
    const below = (n: number) => Math.floor(random() * n)
    const chance = (share: number) => random() < share
    const one = <A>(of: ReadonlyArray<A>): A | undefined => of[below(of.length)]
    const key = () => `h${1 + below(5)}:1`
    const bodies = new Set<() => void>()
    const opening: Array<Fiber.Fiber<void, RpcError>> = []
    const interrupted = new Set<Placed>()
    let members: number | undefined
    const running = () => world.placed.filter(({ fiber }) => fiber.pollUnsafe() === undefined)

    const place = Effect.suspend(() => {
      const steps = chance(0.2) ? 6 + below(40) : undefined
      // Some calls are sent again, as a requeue would, once their attempt has ended.
      const last = one(world.placed)?.call
      const again = last !== undefined && chance(0.3) && last.abort.reason === undefined && !last.abort.held &&
        running().every(({ call }) => call !== last)
      return world.begin(again ? last : world.newCall(chance(0.5) ? 1 + below(3000) : Infinity), steps)
    })
    const push = Effect.suspend(() => {
      const some = Array.from({ length: below(6) }, () => host(1 + below(5), chance(0.7) ? 1 : 1 + below(4)))
      const state = chance(0.8)
        ? ServerSetState.Bound(some)
        : one([ServerSetState.Pending, ServerSetState.Neg, ServerSetState.Failed("resolver")])!
      if (state._tag === "Bound") members = new Set(state.endpoints.map(({ key }) => key)).size
      else if (state._tag === "Neg") members = 0
      return world.push(state)
    })
    const end = ({ attempt, end, request, sink }: Exchange) => {
      const { endpoint } = sink
      const dice = random()
      if (dice < 0.4) return end(Effect.succeed(replyTo(request)))
      if (dice < 0.55) return end(Effect.fail(new Nacked({ endpoint, why: "busy", retryable: chance(0.5) })))
      if (dice < 0.7) return end(Effect.fail(sink.refused()))
      if (dice < 0.75) return end(Effect.die(defect))
      const release = attempt.hold()
      const body = () => {
        bodies.delete(body)
        release(chance(0.7) ? "success" : "failure")
      }
      bodies.add(body)
      end(Effect.succeed(replyTo(request)))
    }
    const step = Effect.suspend((): Effect.Effect<unknown, unknown> => {
      const dice = random()
      if (dice < 0.3) return place
      if (dice < 0.45) {
        return Effect.sync(() => {
          const exchange = one(endpoints.pending())
          if (exchange !== undefined) end(exchange)
        })
      }
      if (dice < 0.52) {
        return Effect.sync(() => {
          const placed = one(running())
          if (placed === undefined) return
          interrupted.add(placed)
          placed.fiber.interruptUnsafe()
        })
      }
      if (dice < 0.56) return Effect.sync(() => one(running())?.call.abort.abort({ _tag: "Superseded" }))
      if (dice < 0.68) return push
      if (dice < 0.74) return Effect.sync(() => endpoints.down(key()))
      if (dice < 0.8) return Effect.sync(() => endpoints.up(key()))
      if (dice < 0.83) return Effect.sync(() => endpoints.busy(key()))
      if (dice < 0.86) return Effect.sync(() => endpoints.setMood(key(), "silent"))
      if (dice < 0.89) return Effect.sync(() => one([...bodies])?.())
      if (dice < 0.92) return Effect.map(world.open, ({ fiber }) => opening.push(fiber))
      if (dice < 0.94) return Effect.sync(() => one(opening)?.interruptUnsafe())
      return world.pass(1 + below(one([10, 500, 5000])!))
    })
    const check = (at: string) => {
      const { endpoints: views, load, size } = world.seen()
      if (members !== undefined) world.expect(`the size ${at}`, members, size)
      world.expect(`the load ${at}`, endpoints.running, load)
      for (const view of views) {
        world.must(`the load of ${view.endpoint} ${at}`, "0 to all", view.load >= 0 && view.load <= load, view.load)
      }
    }

    const steps = 10 + below(30)
    for (let i = 0; i < steps; i++) {
      yield* step
      if (chance(0.7)) {
        yield* world.settle
        check(`after step ${i}`)
      }
    }

    if (chance(0.6)) {
      // Everything is well again: nothing may stay broken.
      for (const each of hosts(5)) {
        endpoints.up(each.key)
      }
      members = 1 + below(5)
      yield* world.bind(hosts(members))
      yield* world.answer(yield* world.send())
      for (const exchange of endpoints.pending()) {
        exchange.end(Effect.succeed(replyTo(exchange.request)))
      }
      yield* world.settle
      world.expect("calls that run when all is well and answered", 0, running().length)
      for (const body of bodies) body()
      check("when all is well and answered")
    }
    yield* world.close
    for (const body of bodies) body()
    for (const fiber of opening) {
      world.must("opening when the balancer is closed", "ended", fiber.pollUnsafe() !== undefined, "it waits")
    }
    for (const placed of world.placed) {
      const exit = placed.fiber.pollUnsafe()
      world.must(`${placed.request} when the balancer is closed`, "ended", exit !== undefined, "it waits")
      if (exit === undefined || interrupted.has(placed)) {
        continue
      }
      const how = Exit.isSuccess(exit) ? exit.value : causeOf(exit.cause)
      const known = Exit.isSuccess(exit)
        ? how === replyTo(placed.request)
        : how === defect || failures.has(how.slice(0, how.indexOf(":")))
      world.must(`how ${placed.request} ended`, "with its reply, or a failure of a stack", known, how)
    }
  })

/** The case. */
export const schedules: Case = {
  name: "any schedule of changes, faults, calls and interruptions ends with no load, no wait and every sink closed",
  holds: ({ schedules }) => schedules > 0,
  run: (setting) =>
    Effect.forEach(
      Array.from({ length: setting.schedules }, (_, i) => setting.seed + i),
      (seed) => worldOf({ ...setting, seed }, schedule),
      { discard: true }
    )
}

/**
 * A balancer written over the contracts alone, without the machinery that ours share, and the mistakes that one can make in it: with
 * none of them it is a good one, least loaded first.
 */
import {
  abortFailure,
  type AbortListener,
  type Attempt,
  beginAttempt,
  type Call,
  type Endpoint,
  type EndpointSink,
  type Family,
  NoEndpoints,
  rank,
  type RpcError,
  ServerSet,
  type ServerSetState,
  settleAttempt,
  Stack,
  StackClosed,
  StatusCell,
  Timer
} from "@scales-rpc/core"
import { Effect, Exit, Fiber, Layer, Scope, Stream } from "effect"

interface Member {
  endpoint: Endpoint
  sink: EndpointSink<string, string, RpcError>
  scope: Scope.Closeable
  load: number
  left: boolean
}

/** What can be wrong with it. */
export type Mistake =
  | "leaks load on interruption"
  | "leaks load on a defect"
  | "counts no load"
  | "begins outside of what ends it"
  | "hears no abort while it waits"
  | "leaves its listener on the abort"
  | "sends what is aborted"
  | "sends before it is run"
  | "mixes replies up"
  | "ends an attempt before its body"
  | "ignores what was tried"
  | "ignores status"
  | "takes busy for well"
  | "locks out what is down"
  | "locks out a call when all are down"
  | "sends to what has left"
  | "closes what drains"
  | "never closes what has left"
  | "opens a sink a state"
  | "takes an endpoint twice for two"
  | "ignores new weights"
  | "ignores weights"
  | "waits for an empty set"
  | "forgets the cause"
  | "forgets the set when it is stale"
  | "does not wait for the first state"
  | "has no status"
  | "notifies late"
  | "never opens"
  | "opens one only"
  | "opens what has left"
  | "keeps calls waiting when it is closed"
  | "looks open when it is closed"
  | "sends all to the first"
  | "takes chance from elsewhere"
  | "registers nothing"
  | "leaves a timer"
  | "leaves a fiber"
  | "waits to be built"

class Forgotten extends Timer {
  override fire() {}
}

/** The balancer, with one of the mistakes or none. */
export const layer = (mistake?: Mistake) =>
<Id extends string>(
  family: Family<Id, string, string, RpcError>
): Layer.Layer<`${Id}/Balanced`, never, `${Id}/Endpoints` | ServerSet | Stack> =>
  Layer.effect(
    family.Balanced,
    Effect.gen(function*() {
      const has = (one: Mistake) => one === mistake
      const stack = yield* Stack
      const factory = yield* family.Endpoints
      // Closed after whatever is added to the balancer's own scope: nothing goes on to a sink that is closed.
      const scope = yield* Scope.fork(yield* Effect.scope)
      const context = yield* Effect.context<never>()
      const run = Effect.runForkWith(context)
      const random = has("takes chance from elsewhere") ? () => Math.random() : stack.random
      const members = new Map<string, Member>()
      const status = new StatusCell("Idle")
      const waiters = new Set<() => void>()
      const draining = new Set<Member>()
      const banned = new Set<string>()
      let known: "set" | "failed" | undefined
      let closed = false
      let opened = false
      let cause: unknown
      let previous = ""

      const wake = () => {
        for (const each of [...waiters]) each()
      }
      const refresh = () => {
        const sinks = Array.from(members.values(), ({ sink }) => sink.status)
        opened ||= sinks.some(({ state }) => state === "Open")
        const [best] = sinks.toSorted((a, b) => rank(a.state) - rank(b.state))
        const set = () => {
          if (has("has no status") || closed) return
          if (opened && best === undefined) status.set("Closed", noEndpoints())
          else if (opened) status.set(best!.state === "Idle" ? "Open" : best!.state, best!.fault)
        }
        if (has("notifies late")) run(Effect.andThen(Effect.yieldNow, Effect.sync(set)))
        else set()
        wake()
      }
      const noEndpoints = () =>
        new NoEndpoints({ stack: stack.name, cause: has("forgets the cause") ? undefined : cause })
      const stackClosed = () => new StackClosed({ stack: stack.name, reached: "no", endpoint: undefined })
      const closeWhenDone = (member: Member) => {
        if (member.load === 0) draining.delete(member)
        if (!member.left || (member.load > 0 && !has("closes what drains")) || has("never closes what has left")) return
        run(Scope.close(member.scope, Exit.void))
      }

      const makeSink = (endpoint: Endpoint) => {
        const own = Scope.forkUnsafe(scope)
        const sink = Effect.runSyncWith(context)(Scope.provide(factory.make(endpoint), own))
        run(Scope.addFinalizer(own, Effect.sync(sink.status.subscribe(refresh))))
        return { sink, scope: own }
      }
      const apply = (state: ServerSetState) => {
        const stale = known === "set" && (state._tag === "Pending" || state._tag === "Failed")
        if (stale ? !has("forgets the set when it is stale") : state._tag === "Pending") return
        known = state._tag === "Failed" ? "failed" : "set"
        cause = state._tag === "Failed" ? state.cause : undefined
        const twice = has("takes an endpoint twice for two")
        const next = new Map(
          (state._tag === "Bound" ? state.endpoints : []).map((endpoint, i) => [
            twice ? `${endpoint.key} ${i}` : endpoint.key,
            endpoint
          ])
        )
        for (const [key, member] of members) {
          if (next.has(key)) continue
          members.delete(key)
          member.left = true
          draining.add(member)
          closeWhenDone(member)
        }
        for (const [key, endpoint] of next) {
          const member = members.get(key)
          if (member === undefined) members.set(key, { endpoint, ...makeSink(endpoint), load: 0, left: false })
          else if (has("opens a sink a state")) Object.assign(member, makeSink(endpoint))
          else if (!has("ignores new weights")) member.endpoint = endpoint
        }
        refresh()
      }
      const mustWait = () =>
        !closed && (known === undefined || (members.size === 0 && has("waits for an empty set"))) &&
        !has("does not wait for the first state")

      const pick = (tried: ReadonlyArray<Endpoint>) => {
        let best: Member | undefined
        let bestScore = Infinity
        for (const member of [...members.values(), ...(has("sends to what has left") ? draining : [])]) {
          const { endpoint, load, sink } = member
          const { state } = sink.status
          let place: number = has("takes busy for well") && state === "Busy" ? 0 : rank(state)
          if (has("ignores status")) place = 0
          if (place === 2) banned.add(endpoint.key)
          if (banned.has(endpoint.key) && has("locks out what is down")) place = 2
          if (place === 2 && has("locks out a call when all are down")) continue
          const again = !has("ignores what was tried") && tried.some(({ key }) => key === endpoint.key) ? 1 : 0
          const weight = has("ignores weights") ? 1 : endpoint.weight
          const even = has("sends all to the first") ? 0 : (load + 1 + random() / 1000) / weight
          const score = 1e12 * place + 1e9 * again + even
          if (score >= bestScore) continue
          best = member
          bestScore = score
        }
        return best
      }

      const sendNow = (request: string, call: Call): Effect.Effect<string, RpcError> => {
        let attempt: Attempt | undefined
        const begin = Effect.suspend((): Effect.Effect<string, RpcError> => {
          if (call.abort.reason !== undefined && !has("sends what is aborted")) {
            return Effect.fail(abortFailure(call.abort.reason, { waiting: "endpoint", reached: "no" }))
          }
          if (closed) return Effect.fail(stackClosed())
          if (mustWait()) return wait(call, Effect.suspend(() => sendNow(request, call)))
          const member = pick(call.tried)
          if (member === undefined) return Effect.fail(noEndpoints())
          attempt = beginAttempt(call, member.endpoint, stack.now)
          if (!has("counts no load")) member.load++
          const release = () => {
            if (!has("counts no load")) member.load--
            closeWhenDone(member)
          }
          if (!has("ends an attempt before its body")) {
            attempt.onEnd((outcome) => {
              if (
                outcome !== "ignored" || call.abort.reason !== undefined || !has("leaks load on interruption")
              ) release()
            })
          }
          const sent = member.sink.send(request, attempt)
          const exchange = has("ends an attempt before its body") ? Effect.ensuring(sent, Effect.sync(release)) : sent
          return has("mixes replies up")
            ? Effect.map(exchange, (reply) => ([reply, previous] = [previous === "" ? reply : previous, reply])[0]!)
            : exchange
        })
        const end = (exit: Exit.Exit<string, RpcError>) => {
          const died = Exit.isFailure(exit) && exit.cause.reasons.some(({ _tag }) => _tag === "Die")
          if (attempt !== undefined && !(died && has("leaks load on a defect"))) settleAttempt(attempt, exit)
          return undefined
        }
        return has("begins outside of what ends it")
          ? Effect.matchCauseEffect(begin, {
            onFailure: (failure) =>
              Effect.andThen(Effect.sync(() => end(Exit.failCause(failure))), Effect.failCause(failure)),
            onSuccess: (reply) => Effect.as(Effect.sync(() => end(Exit.succeed(reply))), reply)
          })
          : Effect.onExitPrimitive(begin, end)
      }

      const wait = <A>(call: Call | undefined, then: Effect.Effect<A, RpcError>): Effect.Effect<A, RpcError> =>
        Effect.callback((resume) => {
          const leave = () => {
            waiters.delete(waiter)
            if (!has("leaves its listener on the abort")) call?.abort.off(listener)
          }
          const waiter = () => {
            if (mustWait()) return
            leave()
            resume(then)
          }
          const listener: AbortListener = {
            onAbort: (reason) => {
              leave()
              resume(Effect.fail(abortFailure(reason, { waiting: "endpoint", reached: "no" })))
            }
          }
          if (call?.abort.reason !== undefined) return listener.onAbort(call.abort.reason)
          if (!mustWait()) return resume(then)
          waiters.add(waiter)
          if (!has("hears no abort while it waits")) call?.abort.on(listener)
          return Effect.sync(leave)
        })

      const open: Effect.Effect<void, RpcError> = Effect.suspend((): Effect.Effect<void, RpcError> => {
        if (closed) return Effect.fail(stackClosed())
        if (mustWait()) return wait(undefined, open)
        if (has("never opens")) return Effect.void
        const all = [...members.values()]
        if (all.some(({ sink }) => sink.status.state === "Open")) return Effect.void
        const some = has("opens one only") ? all.slice(0, 1) : all
        return some.reduce<Effect.Effect<void, RpcError>>(
          (before, member) =>
            Effect.catch(
              before,
              (error) => closed || (member.left && !has("opens what has left")) ? Effect.fail(error) : member.sink.open
            ),
          Effect.fail(noEndpoints())
        )
      })

      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          closed = true
          status.set(has("looks open when it is closed") ? "Open" : "Closed")
          if (!has("keeps calls waiting when it is closed")) wake()
        })
      )
      if (!has("registers nothing")) {
        yield* stack.register({
          role: "balancer",
          description: "sends each call to the least loaded",
          options: {},
          snapshot: () => {
            const endpoints = Array.from(members.values(), ({ endpoint, load, sink }) => ({
              endpoint: endpoint.key,
              state: sink.status.state,
              load,
              weight: endpoint.weight,
              latencyMillis: undefined,
              active: true,
              fault: sink.status.fault?.message
            }))
            const load = [...members.values(), ...draining].reduce((total, { load }) => total + load, 0)
            return { size: members.size, load, endpoints }
          }
        })
      }
      if (has("leaves a timer")) stack.deadlines.add(new Forgotten(1e9), stack.now())
      if (has("leaves a fiber")) run(Effect.sleep("1 hour"))
      const states = yield* ServerSet
      const watching = yield* Effect.forkScoped(
        Stream.runForEach(states, (state) =>
          Effect.sync(() => {
            if (!closed) apply(state)
          })),
        { startImmediately: true }
      )
      if (has("waits to be built")) yield* Fiber.await(watching)

      return {
        status,
        open,
        send: (request, call) => {
          if (has("sends before it is run")) {
            const early = run(sendNow(request, call))
            return Fiber.join(early)
          }
          return Effect.suspend(() => sendNow(request, call))
        }
      }
    })
  )

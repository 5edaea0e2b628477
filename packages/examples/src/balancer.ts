/**
 * A balancer: calls with one key go to one endpoint, as long as it is up, so that what a server keeps in memory for a key is kept
 * once. It is rendezvous hashing: every endpoint has a score for a key, the highest is taken, and when a server comes or goes only
 * its own keys move. `ThriftMux.layer(Echo, { uri, balancer: byKey(Mux) })`, and `Rpc.context(Key, user)` on calls.
 */
import {
  type Attempt,
  beginAttempt,
  type Call,
  type Endpoint,
  type EndpointSink,
  type Family,
  localKey,
  NoEndpoints,
  rank,
  type RpcError,
  ServerSet,
  type ServerSetState,
  settleAttempt,
  Stack,
  StatusCell
} from "@scales-rpc/core"
import { Deferred, Effect, Exit, Layer, Scope, Stream } from "effect"

/** What the endpoint is chosen by; a call without it goes to any. It is not sent. */
export const Key = localKey<string>("key")

/** An endpoint of the set, with the sink that was made for it. */
interface Member<Req, Res, E> {
  /** Its weight may change while it stays. */
  endpoint: Endpoint
  readonly sink: EndpointSink<Req, Res, E>
  readonly scope: Scope.Closeable
  /** Attempts that have not ended. One that has left the set is closed when there are none. */
  load: number
  left: boolean
}

/** FNV-1a with a last mix, as a number between 0 and 1, without either. */
const hash = (text: string): number => {
  let h = 0x811c9dc5
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193)
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (((h ^ (h >>> 16)) >>> 0) + 0.5) / 2 ** 32
}

/** The balancer for a family. */
export const byKey = <Id extends string, Req, Res, E>(
  family: Family<Id, Req, Res, E | RpcError>
): Layer.Layer<`${Id}/Balanced`, never, `${Id}/Endpoints` | ServerSet | Stack> =>
  Layer.effect(
    family.Balanced,
    Effect.gen(function*() {
      const stack = yield* Stack
      const factory = yield* family.Endpoints
      const states = yield* ServerSet
      const scope = yield* Effect.scope
      const run = Effect.runForkWith(yield* Effect.context<never>())
      const members = new Map<string, Member<Req, Res, E | RpcError>>()
      const status = new StatusCell("Idle")
      // Calls wait for the first state in a way that hears of no deadline: each runs in a fiber of its own, which one can end.
      stack.markFiltered()
      const known = yield* Deferred.make<void>()
      let cause: unknown

      const noEndpoints = () => new NoEndpoints({ stack: stack.name, cause })

      /** As good as the best endpoint. */
      const refresh = () => {
        const [best] = Array.from(members.values(), ({ sink }) => sink.status).toSorted((a, b) =>
          rank(a.state) - rank(b.state)
        )
        if (best === undefined) status.set("Closed", noEndpoints())
        else status.set(best.state, best.fault)
      }

      const closeWhenDone = (member: Member<Req, Res, E | RpcError>) => {
        if (member.left && member.load === 0) run(Scope.close(member.scope, Exit.void))
      }

      const join = (endpoint: Endpoint) =>
        Effect.gen(function*() {
          const own = yield* Scope.fork(scope)
          const sink = yield* Scope.provide(factory.make(endpoint), own)
          yield* Scope.addFinalizer(own, Effect.sync(sink.status.subscribe(refresh)))
          members.set(endpoint.key, { endpoint, sink, scope: own, load: 0, left: false })
        })

      const apply = (state: ServerSetState) =>
        Effect.gen(function*() {
          const isKnown = yield* Deferred.isDone(known)
          if (state._tag === "Pending" || (state._tag === "Failed" && isKnown)) return
          cause = state._tag === "Failed" ? state.cause : undefined
          const next = new Map(
            state._tag === "Bound" ? state.endpoints.map((endpoint) => [endpoint.key, endpoint]) : []
          )
          for (const [key, member] of members) {
            if (next.has(key)) continue
            members.delete(key)
            member.left = true
            closeWhenDone(member)
          }
          for (const [key, endpoint] of next) {
            const member = members.get(key)
            if (member === undefined) yield* join(endpoint)
            else member.endpoint = endpoint
          }
          refresh()
          yield* Deferred.succeed(known, undefined)
        })

      /** Usable before busy before down, not tried before tried; among equals the highest score. */
      const pick = (call: Call) => {
        const key = call.context.get(Key)
        let best: Member<Req, Res, E | RpcError> | undefined
        let bestClass = Infinity
        let bestScore = 0
        for (const member of members.values()) {
          const { endpoint, sink } = member
          const tried = call.tried.some((other) => other.key === endpoint.key)
          const memberClass = 2 * rank(sink.status.state) + (tried ? 1 : 0)
          const chance = key === undefined ? stack.random() : hash(`${key}\n${endpoint.key}`)
          const score = -endpoint.weight / Math.log(chance)
          if (memberClass < bestClass || (memberClass === bestClass && score > bestScore)) {
            best = member
            bestClass = memberClass
            bestScore = score
          }
        }
        return best
      }

      const sendNow = (request: Req, call: Call): Effect.Effect<Res, E | RpcError> => {
        let attempt: Attempt | undefined
        // The attempt begins inside of what ends it: a fiber may be interrupted between any two of its steps.
        return Effect.onExitPrimitive(
          Effect.suspend((): Effect.Effect<Res, E | RpcError> => {
            const member = pick(call)
            if (member === undefined) return Effect.fail(noEndpoints())
            attempt = beginAttempt(call, member.endpoint, stack.now)
            member.load++
            attempt.onEnd(() => {
              member.load--
              closeWhenDone(member)
            })
            return member.sink.send(request, attempt)
          }),
          (exit) => {
            if (attempt !== undefined) settleAttempt(attempt, exit)
            return undefined
          }
        )
      }

      yield* stack.register({
        role: "balancer",
        description: "sends the calls of one key to one endpoint",
        options: {},
        snapshot: () =>
          Array.from(members, ([key, { load, sink }]) => ({ endpoint: key, state: sink.status.state, load }))
      })
      yield* Effect.forkScoped(Stream.runForEach(states, apply), { startImmediately: true })

      return {
        status,
        open: Effect.andThen(
          Deferred.await(known),
          // One after another, until one is open.
          Effect.suspend(() =>
            [...members.values()].reduce<Effect.Effect<void, RpcError>>(
              (before, { sink }) => Effect.catch(before, () => sink.open),
              Effect.fail(noEndpoints())
            )
          )
        ),
        send: (request, call) =>
          Effect.suspend(() =>
            Deferred.isDoneUnsafe(known)
              ? sendNow(request, call)
              : Effect.andThen(Deferred.await(known), Effect.suspend(() => sendNow(request, call)))
          )
      }
    })
  )

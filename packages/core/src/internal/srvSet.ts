/**
 * `srv://_service._tcp.name`: the endpoints of a service by its SRV records (RFC 2782), each target's addresses with the record's port, and with the
 * target as `name` in their metadata.
 *
 * Records of the lowest priority that has members are used, and of those their weights; see `membersOf`. The records are asked for again after
 * the interval of `DnsSettings` (their TTL is not to be had), each target when its own TTL has passed, 16 at a time. No such name is `Neg`, and so is a service that is said not to be
 * there; a name without such records is an empty set. A target that cannot be resolved stands with its last addresses, or is left out with one
 * warning, and is asked for again as `dns://` does; when there is no member for that reason, or the records cannot be had, that is a failure, and the whole set
 * stands as it was.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type { SrvRecord } from "node:dns"
import { type InvalidOption, InvalidUri, type ResolverFailed } from "../RpcError.ts"
import { ServerSetState, type States } from "../ServerSetState.ts"
import { parseAddress } from "./address.ts"
import {
  dueIn,
  isNegative,
  isNoName,
  Name,
  retryIn,
  round,
  serviceRecords,
  type Settings,
  settings
} from "./dnsNames.ts"
import { notResolved } from "./dnsSet.ts"
import { lookedAt } from "./lookedAt.ts"
import { say } from "./say.ts"
import { byPriority, membersOf } from "./srvMembers.ts"

/** A host that records of the service name. */
class Target {
  /** Targets are names of DNS: no other source is asked for them. */
  readonly name: Name
  addresses: ReadonlyArray<string> = []
  /** When it is to be asked for, by the monotonic clock, ms. */
  dueAt = 0
  failures = 0
  /** Why it could not be resolved, when that was so last. */
  problem: ResolverFailed | undefined

  constructor(name: Name) {
    this.name = name
  }
}

/** A wall clock that is set back would keep everything from being asked again. */
const monotonicMillis = Effect.map(Clock.Clock, (clock) => Number(clock.monotonicTimeNanosUnsafe()) / 1e6)

class Service {
  readonly #uri: string
  readonly #name: string
  readonly #settings: Settings
  readonly #targets = new Map<string, Target>()
  #records: ReadonlyArray<SrvRecord> | undefined
  #failures = 0
  /** When the records are to be asked for, by the monotonic clock, ms. */
  #dueAt = 0
  /** When something is, first. */
  #nextAt = 0

  constructor(uri: string, name: string, settings: Settings) {
    this.#uri = uri
    this.#name = name
    this.#settings = settings
  }

  readonly look: Effect.Effect<ServerSetState, ResolverFailed> = Effect.gen({ self: this }, function*() {
    const wait = this.#nextAt - (yield* monotonicMillis)
    if (wait > 0) yield* Effect.sleep(Math.ceil(wait))
    // A timer may be early by a part of a millisecond.
    const now = Math.max(yield* monotonicMillis, this.#nextAt)
    const stated = now >= this.#dueAt ? yield* this.#ask(now) : undefined
    this.#nextAt = this.#dueAt
    return stated ?? (yield* this.#members(now))
  })

  /** Asks for the records. Gives a state when there are none. */
  readonly #ask = (now: number): Effect.Effect<ServerSetState | undefined, ResolverFailed> =>
    Effect.gen({ self: this }, function*() {
      const result = yield* Effect.result(
        round(this.#settings, (resolver) => serviceRecords(resolver, this.#name))
      )
      if (Result.isFailure(result) && !isNegative(result.failure)) {
        this.#nextAt = this.#dueAt = now + (yield* retryIn(++this.#failures))
        return yield* notResolved(this.#uri, this.#name, result.failure)
      }
      this.#failures = 0
      this.#dueAt = now + (yield* dueIn(this.#settings, undefined))
      this.#records = Result.isSuccess(result) ? result.success : []
      const named = new Set(this.#records.map(({ name }) => name))
      for (const name of this.#targets.keys()) if (!named.has(name)) this.#targets.delete(name)
      if (Result.isFailure(result)) return isNoName(result.failure) ? ServerSetState.Neg : ServerSetState.Bound([])
      return byPriority(this.#records).length === 0 ? ServerSetState.Neg : undefined
    })

  /** The members of the lowest priority that has some. */
  readonly #members = (now: number): Effect.Effect<ServerSetState, ResolverFailed> =>
    Effect.gen({ self: this }, function*() {
      let problem: ResolverFailed | undefined
      for (const group of byPriority(this.#records ?? [])) {
        const targets = yield* Effect.forEach(
          new Set(group.map(({ name }) => name)),
          (name) => this.#resolved(name, now),
          { concurrency: 16 }
        )
        for (const { dueAt } of targets) this.#nextAt = Math.min(this.#nextAt, dueAt)
        const members = membersOf(group, (name) => this.#targets.get(name)!.addresses)
        if (members.length > 0) return ServerSetState.Bound(members)
        problem ??= targets.find((target) => target.problem !== undefined)?.problem
      }
      return problem === undefined ? ServerSetState.Bound([]) : yield* problem
    })

  /** A target, resolved if that is due. */
  readonly #resolved = (host: string, now: number): Effect.Effect<Target> =>
    Effect.gen({ self: this }, function*() {
      const target = this.#targets.get(host) ?? new Target(new Name(host, this.#settings, false))
      this.#targets.set(host, target)
      if (target.dueAt > now) return target
      const result = yield* Effect.result(
        round(this.#settings, (resolver) => target.name.resolve(resolver))
      )
      if (Result.isSuccess(result) || isNegative(result.failure)) {
        target.addresses = Result.isSuccess(result) ? result.success.addresses : []
        target.dueAt = now +
          (yield* dueIn(this.#settings, Result.isSuccess(result) ? result.success.ttlMillis : undefined))
        target.failures = 0
        target.problem = undefined
        return target
      }
      target.dueAt = now + (yield* retryIn(++target.failures))
      if (target.problem === undefined) {
        target.problem = notResolved(this.#uri, host, result.failure)
        yield* say("warning", "a target of a server set cannot be resolved", {
          cause: target.problem.message,
          known: target.addresses.length === 0 ? "it is left out" : "its last addresses stand"
        })
      }
      return target
    })
}

/** Resolves `srv://_service._tcp.name`. Fails with `InvalidUri`, and with `InvalidOption` for `DnsSettings`. */
export const srvSet = (uri: string, rest: string): Effect.Effect<States, InvalidUri | InvalidOption, Scope.Scope> => {
  const invalid = (what: string) =>
    Effect.fail(
      new InvalidUri({ uri, what, expected: "srv://_service._tcp.name, or another name that has SRV records" })
    )
  if (rest === "") return invalid("it names no service")
  if (rest.includes(":")) return invalid("it has a port, which the records of a service bring themselves")
  // Any port: only what is before it is read.
  const read = parseAddress(uri, `${rest}:1`)
  return read instanceof InvalidUri
    ? invalid(read.what)
    : Effect.map(settings, (settings) => lookedAt(Effect.sync(() => new Service(uri, rest, settings).look)))
}

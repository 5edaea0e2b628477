/** Addresses of names and records of services: what DNS is asked, and what its answers mean. */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Dns from "node:dns"
import { networkInterfaces } from "node:os"
import { type DnsOptions, DnsSettings } from "../Dns.ts"
import { LatencyHistogram } from "../LatencyHistogram.ts"
import { table } from "../metricTable.ts"
import * as Metrics from "../Metrics.ts"
import { durationMillis } from "../options.ts"
import { InvalidOption } from "../RpcError.ts"
import { Stack, type StackShape } from "../Stack.ts"
import { codeOf } from "./fileStamp.ts"

/** An address family, as its number. */
export type Family = 4 | 6

/** The settings, checked. */
export interface Settings {
  readonly servers: ReadonlyArray<string> | undefined
  readonly families: () => ReadonlyArray<Family>
  readonly intervalMillis: number
  /** All addresses that the system knows of a name; a test has a system of its own. */
  readonly lookup: (name: string, family: Family | 0) => Promise<ReadonlyArray<Dns.LookupAddress>>
  /** Hears of each round of questions. */
  readonly rounds: Rounds
}

/** What is counted of the rounds of questions of one server set. */
export class Rounds {
  asked = 0
  failed = 0
  readonly #stack: StackShape | undefined
  readonly #latency: LatencyHistogram | undefined

  /** Of a client's server set; without a client nobody is shown how long they took. */
  constructor(stack: StackShape | undefined) {
    this.#stack = stack
    this.#latency = stack === undefined ? undefined : new LatencyHistogram(stack.elapsed())
  }

  /** A round begins; the result is told how it ended. */
  began(): (exit: Exit.Exit<unknown, Error>) => undefined {
    this.asked++
    const begunAt = this.#stack?.elapsed() ?? 0
    return (exit) => {
      if (Exit.isSuccess(exit) || isAnswer(exit.cause)) {
        const at = this.#stack?.elapsed() ?? 0
        this.#latency?.record(at - begunAt, at)
      } else if (!Cause.hasInterruptsOnly(exit.cause)) this.failed++
      return undefined
    }
  }

  /** Shows them until the scope closes. */
  get show(): Effect.Effect<void, never, Scope.Scope> {
    const stack = this.#stack
    const latency = this.#latency
    return stack === undefined || latency === undefined ? Effect.void : Metrics.show(
      stack,
      Metrics.value(table["scales.dns.lookups"], () => this.asked),
      Metrics.value(table["scales.dns.failures"], () => this.failed),
      Metrics.latencies(table["scales.dns.latency_ms"], () => latency, stack.elapsed)
    )
  }
}

type Interfaces = ReturnType<typeof networkInterfaces>

/** The families that a machine with these interfaces reaches others by. */
export const familiesOf = (interfaces: Interfaces): ReadonlyArray<Family> => {
  const outward = Object.values(interfaces).flatMap((all = []) =>
    all.filter(({ address, internal }) => !internal && !/^(fe80:|169\.254\.)/i.test(address))
  )
  const families = ([4, 6] as const).filter((family) => outward.some((one) => one.family === `IPv${family}`))
  return families.length === 0 ? [4, 6] : families
}

const familyOption: Record<NonNullable<DnsOptions["families"]>, ReadonlyArray<Family>> = {
  ipv4: [4],
  ipv6: [6],
  both: [4, 6]
}

/** A Node resolver for one round of questions: a new one reads the system's configuration again. */
const resolverOf = (servers: ReadonlyArray<string> | undefined): Dns.Resolver => {
  // A server that is silent is asked three times, or the next one is: 5 s, within `boundMillis`.
  const resolver = new Dns.Resolver({ timeout: 1000, tries: 3, maxTimeout: 2000 })
  if (servers !== undefined) resolver.setServers(servers)
  return resolver
}

/** The settings in force. Fails with `InvalidOption`. */
export const settings: Effect.Effect<Settings, InvalidOption, Scope.Scope> = Effect.gen(function*() {
  const { families, interval, servers } = yield* DnsSettings
  if (servers !== undefined) {
    yield* Effect.try({
      try: () => {
        if (servers.length === 0) throw new Error("none")
        resolverOf(servers)
      },
      catch: () =>
        new InvalidOption({ option: "dns.servers", got: servers, expected: "addresses, each with a port or without" })
    })
  }
  if (families !== undefined && !Object.hasOwn(familyOption, families)) {
    return yield* new InvalidOption({ option: "dns.families", got: families, expected: "ipv4, ipv6 or both" })
  }
  const rounds = new Rounds(Option.getOrUndefined(yield* Effect.serviceOption(Stack)))
  yield* rounds.show
  return {
    rounds,
    servers,
    families: families === undefined ? () => familiesOf(networkInterfaces()) : () => familyOption[families],
    intervalMillis: yield* durationMillis("dns.interval", interval, 10_000, 1000),
    lookup: (name, family) => Dns.promises.lookup(name, { all: true, family })
  }
})

/** How long a round of questions may take. */
const boundMillis = 10_000

/** Runs a round with a resolver; what it leaves unanswered is cancelled. Fails with what the system said. */
export const round = <A>(
  settings: Settings,
  ask: (resolver: Dns.Resolver) => Effect.Effect<A, Error>
): Effect.Effect<A, Error> =>
  Effect.suspend(() => {
    const resolver = resolverOf(settings.servers)
    const ended = settings.rounds.began()
    return ask(resolver).pipe(
      Effect.timeoutOrElse({
        duration: Duration.millis(boundMillis),
        orElse: () => Effect.fail(new Error(`no answer within ${boundMillis} ms`))
      }),
      Effect.ensuring(Effect.sync(() => resolver.cancel())),
      Effect.onExit((exit) => Effect.sync(() => ended(exit)))
    )
  })

const answer = <A>(ask: (done: (error: Error | null, value: A) => void) => void): Effect.Effect<A, Error> =>
  Effect.callback((resume) =>
    ask((error, value) => resume(error === null ? Effect.succeed(value) : Effect.fail(error)))
  )

/** Whether an error is an answer: no such name (`ENOTFOUND`), or none of the records asked for (`ENODATA`). */
export const isNegative = (error: Error): boolean => codeOf(error) === "ENOTFOUND" || codeOf(error) === "ENODATA"

const isAnswer = (cause: Cause.Cause<Error>): boolean =>
  cause.reasons.some((reason) => Cause.isFailReason(reason) && isNegative(reason.error))

/** Whether an error says that there is no such name. */
export const isNoName = (error: Error): boolean => codeOf(error) === "ENOTFOUND"

/** The records of a service. They come without their TTL. */
export const serviceRecords = (
  resolver: Dns.Resolver,
  name: string
): Effect.Effect<ReadonlyArray<Dns.SrvRecord>, Error> => answer((done) => resolver.resolveSrv(name, done))

/** The addresses of a name. */
export interface Addresses {
  readonly addresses: ReadonlyArray<string>
  /** For how long, as the answer said; `undefined` when it did not. */
  readonly ttlMillis: number | undefined
}

/** A name that is resolved again and again. */
export class Name {
  readonly name: string
  readonly #settings: Settings
  readonly #anywhere: boolean
  /** What each family's last answer was. */
  readonly #known = new Map<Family, ReadonlyArray<string>>()
  #lookup: Promise<ReadonlyArray<string>> | undefined

  /** `anywhere`: the system is asked for what DNS does not know. */
  constructor(name: string, settings: Settings, anywhere: boolean) {
    this.name = name
    this.#settings = settings
    this.#anywhere = anywhere
  }

  /**
   * Asks for the addresses of each family. One that fails stands with its last ones, when another is answered. Fails with what DNS said when
   * none is, or when there are none.
   */
  resolve(resolver: Dns.Resolver): Effect.Effect<Addresses, Error> {
    const families = this.#settings.families()
    // Names that no DNS server is asked for (RFC 6761, 6.3).
    if (/(^|\.)localhost\.?$/i.test(this.name)) return this.#bySystem(families)
    return Effect.flatMap(
      Effect.forEach(families, (family) => Effect.result(ask(resolver, this.name, family)), {
        concurrency: "unbounded"
      }),
      (results) => {
        const errors: Array<Error> = []
        let ttlMillis: number | undefined
        for (const [at, result] of results.entries()) {
          const family = families[at]!
          if (Result.isFailure(result)) {
            errors.push(result.failure)
            if (isNegative(result.failure)) this.#known.delete(family)
            continue
          }
          this.#known.set(family, [...new Set(result.success.map(({ address }) => address))])
          for (const { ttl } of result.success) ttlMillis = Math.min(ttlMillis ?? Infinity, ttl * 1000)
        }
        const addresses = families.flatMap((family) => this.#known.get(family) ?? [])
        if (errors.length < results.length) {
          const uncertain = errors.some((error) => !isNegative(error))
          return Effect.succeed({
            addresses,
            ttlMillis: uncertain ? Math.min(ttlMillis!, this.#settings.intervalMillis) : ttlMillis
          })
        }
        // No such name only if every family says so; a failure says less than any answer, and may hide addresses.
        const error = errors.find((error) => !isNegative(error)) ?? errors.find((error) => !isNoName(error)) ??
          errors[0]!
        if (!this.#anywhere || (addresses.length > 0 && !isNegative(error))) return Effect.fail(error)
        // That the system cannot tell now is no word that there is no such name: it may ask DNS for others than we did.
        return Effect.catch(
          this.#bySystem(families),
          (cause) => Effect.fail(isNegative(error) && !isNegative(cause) ? cause : error)
        )
      }
    )
  }

  /**
   * The system's resolver also knows `/etc/hosts` and search domains, which DNS does not. It holds a thread of Node's pool, for many seconds when DNS is
   * silent, cannot be cancelled and gives no TTL: so it comes after DNS, not in its place, and one lookup at a time is under way. It is not
   * asked while DNS fails for a name that had addresses.
   */
  #bySystem(families: ReadonlyArray<Family>): Effect.Effect<Addresses, Error> {
    const [first, second] = families
    return Effect.map(
      Effect.tryPromise({
        try: () =>
          this.#lookup ??= this.#settings.lookup(this.name, second === undefined ? first! : 0)
            .then((found) => [...new Set(found.map(({ address }) => address))])
            .finally(() => {
              this.#lookup = undefined
            }),
        catch: (cause) => cause instanceof Error ? cause : new Error(String(cause))
      }),
      (addresses) => ({ addresses, ttlMillis: undefined })
    )
  }
}

const ask = (
  resolver: Dns.Resolver,
  name: string,
  family: Family
): Effect.Effect<ReadonlyArray<Dns.RecordWithTtl>, Error> =>
  answer((done) =>
    family === 4 ? resolver.resolve4(name, { ttl: true }, done) : resolver.resolve6(name, { ttl: true }, done)
  )

/**
 * When the next round is due, in milliseconds from now: the TTL, but at least a second and at most 5 minutes (a TTL of 0 is no reason to
 * ask without end, one of a week none to miss a move), or the interval; and up to a tenth later, so that clients which started together do not ask together.
 */
export const dueIn = (settings: Settings, ttlMillis: number | undefined): Effect.Effect<number> =>
  Effect.map(
    Random.next,
    (random) =>
      (ttlMillis === undefined ? settings.intervalMillis : Math.min(Math.max(ttlMillis, 1000), 300_000)) *
      (1 + random / 10)
  )

/** When to ask again after so many failures in a row, in milliseconds: from about 1 second, doubled each time, to about 30, each by half at random. */
export const retryIn = (failures: number): Effect.Effect<number> =>
  Effect.map(Random.next, (random) => Math.min(1000 * 2 ** (failures - 1), 30_000) * (0.5 + random / 2))

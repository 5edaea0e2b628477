/**
 * Series whose values are read when metrics are read: what a stage counts for itself in plain fields shows up in Effect's metric
 * registry, and a call pays nothing for it. Every series says whose it is (`client` or `server`, which no two have at a time), and ends with its scope.
 *
 * `Metric.registerUnsafe` is unstable in Effect 4.1; this is the only place that calls it.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type * as Scope from "effect/Scope"
import { boundaries, type LatencyHistogram, longBoundaries, quantiles } from "./LatencyHistogram.ts"

/** What a series counts or shows. */
export type Kind = "counter" | "gauge" | "histogram" | "summary"

/** What is known of a series before there is one: a row of the table in the documentation. */
export interface Definition<K extends Kind = Kind> {
  /** `scales.stage.what`, with the unit at its end where there is one. */
  readonly name: string
  readonly kind: K
  /** One sentence. */
  readonly description: string
  /** What tells the series of this name from each other, besides whose they are. */
  readonly attributes: ReadonlyArray<string>
  /** The upper edges of a histogram's buckets, in milliseconds. Default: those of latencies, 1/16 ms to about a minute. */
  readonly boundaries?: ReadonlyArray<number> | undefined
}

type Unnamed<K extends Kind> = Omit<Definition<K>, "name">

/** A number that only grows. */
export const counter = (description: string, ...attributes: ReadonlyArray<string>): Unnamed<"counter"> => ({
  kind: "counter",
  description,
  attributes
})

/** A number that goes up and down. */
export const gauge = (description: string, ...attributes: ReadonlyArray<string>): Unnamed<"gauge"> => ({
  kind: "gauge",
  description,
  attributes
})

/** Latencies since the beginning, in buckets. */
export const histogram = (description: string, ...attributes: ReadonlyArray<string>): Unnamed<"histogram"> => ({
  kind: "histogram",
  description,
  attributes
})

/** How long states lasted, since the beginning, in buckets: 1 ms to about an hour. */
export const durations = (description: string, ...attributes: ReadonlyArray<string>): Unnamed<"histogram"> => ({
  kind: "histogram",
  description,
  attributes,
  boundaries: longBoundaries
})

/** Quantiles of the latencies of the last minute. */
export const summary = (description: string, ...attributes: ReadonlyArray<string>): Unnamed<"summary"> => ({
  kind: "summary",
  description,
  attributes
})

/** The definitions of a package by name. */
export const table = <Rows extends Readonly<Record<string, Unnamed<Kind>>>>(
  rows: Rows
): { readonly [Name in keyof Rows]: Rows[Name] & { readonly name: Name & string } } =>
  Object.fromEntries(Object.entries(rows).map(([name, row]) => [name, { ...row, name }])) as never

/** One series: a definition, where its value is read, and the values of the definition's attributes. */
export interface Series {
  readonly definition: Definition
  readonly attributes: Readonly<Record<string, string>>
  /** Puts it into the registry of `context` under these attributes. */
  readonly register: (
    attributes: Readonly<Record<string, string>>,
    context: Context.Context<never>
  ) => Metric.Registration
}

const ignore = () => {}
const pulled = <State>(get: () => State) => ({ get, update: ignore, modify: ignore })

/** A series of a number. */
export const value = (
  definition: Definition<"counter"> | Definition<"gauge">,
  read: () => number,
  attributes: Readonly<Record<string, string>> = {}
): Series => ({
  definition,
  attributes,
  register: (all, context) => {
    const { description, kind, name } = definition
    return kind === "counter"
      ? Metric.registerUnsafe(
        Metric.counter(name, { description, attributes: all, incremental: true }),
        context,
        pulled(() => ({ count: read(), incremental: true }))
      )
      : Metric.registerUnsafe(
        Metric.gauge(name, { description, attributes: all }),
        context,
        pulled(() => ({ value: read() }))
      )
  }
})

/** A series of latencies: since the beginning, or their quantiles over the last minute. */
export const latencies = (
  definition: Definition<"histogram"> | Definition<"summary">,
  read: () => LatencyHistogram,
  now: () => number,
  attributes: Readonly<Record<string, string>> = {}
): Series => ({
  definition,
  attributes,
  register: (all, context) => {
    const { boundaries: edges = boundaries, description, kind, name } = definition
    return kind === "histogram"
      ? Metric.registerUnsafe(
        Metric.histogram(name, { description, attributes: all, boundaries: edges }),
        context,
        pulled(() => ({ ...read().totals, buckets: read().bucketsOf(edges) }))
      )
      : Metric.registerUnsafe(
        Metric.summary(name, { description, attributes: all, maxAge: "1 minute", maxSize: 1, quantiles }),
        context,
        pulled(() => ({ ...read().totals, quantiles: read().quantiles(quantiles, now()) }))
      )
  }
})

/** The same, or nothing where they are not measured. */
export const measured = (
  definition: Definition<"histogram"> | Definition<"summary">,
  histogram: LatencyHistogram | undefined,
  now: () => number
): ReadonlyArray<Series> => histogram === undefined ? [] : [latencies(definition, () => histogram, now)]

/** The unit as OTLP's exporter wants it; Prometheus has it in the name. */
const unitOf = (name: string): Readonly<Record<string, string>> =>
  name.endsWith("_ms") ? { unit: "milliseconds" } : name.endsWith("_bytes") ? { unit: "bytes" } : {}

const keyOf = (name: string, attributes: Readonly<Record<string, string>>): string => name + JSON.stringify(attributes)

/** Where the series of one client or one server are. */
export class Registry {
  /** Whether anything is counted that costs a call something, and shown at all. */
  readonly on: boolean
  readonly #owner: Readonly<Record<string, string>>
  readonly #context: Context.Context<never>
  readonly #shown = new Map<string, Metric.Registration>()
  #closed = false

  /** `owner` is added to the attributes of each series; `context` names the registry. */
  constructor(on: boolean, owner: Readonly<Record<string, string>>, context: Context.Context<never>) {
    this.on = on
    this.#owner = owner
    this.#context = context
  }

  /** Attributes that no series of the definition has: these, with a number as `nth` when they are a second stage's of the same kind. */
  unused({ name }: Definition, attributes: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
    let own = attributes
    for (let nth = 2; this.#shown.has(keyOf(name, own)); nth++) own = { ...attributes, nth: `${nth}` }
    return own
  }

  /** Shows series until the result is called, each under attributes that are `unused`. */
  add(...series: ReadonlyArray<Series>): () => void {
    if (!this.on || this.#closed) return ignore
    const keys = series.map(({ attributes, definition, register }) => {
      const own = this.unused(definition, attributes)
      const key = keyOf(definition.name, own)
      this.#shown.set(key, register({ ...own, ...this.#owner, ...unitOf(definition.name) }, this.#context))
      return key
    })
    return () => {
      for (const key of keys.splice(0)) this.#remove(key)
    }
  }

  /** Takes away whatever is still shown, and shows nothing any more: what is called after its end leaves no series behind. */
  close(): void {
    this.#closed = true
    for (const key of this.#shown.keys()) this.#remove(key)
  }

  #remove(key: string): void {
    this.#shown.get(key)?.remove()
    this.#shown.delete(key)
  }
}

/** Whoever has a registry: the stack of a client, or a server. */
export interface Owner {
  readonly metrics: Registry
}

/** Shows series until the scope closes. */
export const show = (owner: Owner, ...series: ReadonlyArray<Series>): Effect.Effect<void, never, Scope.Scope> =>
  Effect.asVoid(
    Effect.acquireRelease(Effect.sync(() => owner.metrics.add(...series)), (remove) => Effect.sync(remove))
  )

/** Counts by what differs, such as the tag of an error: each value of the attribute has a series from when it was counted first. */
export class Tally {
  readonly #counts = new Map<string, number>()
  readonly #add: (value: string, read: () => number) => void
  #removes: Array<() => void> | undefined = []

  /** `attribute` is the one that differs, `attributes` are the others. */
  constructor(
    owner: Owner,
    definition: Definition<"counter">,
    attribute: string,
    attributes: Readonly<Record<string, string>> = {}
  ) {
    this.#add = (counted, read) =>
      this.#removes?.push(owner.metrics.add(value(definition, read, { ...attributes, [attribute]: counted })))
  }

  /** Counts one. */
  count(counted: string): void {
    const before = this.#counts.get(counted)
    this.#counts.set(counted, (before ?? 0) + 1)
    if (before === undefined) this.#add(counted, () => this.#counts.get(counted)!)
  }

  /** All so far, by value. */
  get counts(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#counts)
  }

  /** Takes the series away, and shows no more. */
  remove(): void {
    for (const remove of this.#removes ?? []) remove()
    this.#removes = undefined
  }
}

/** Counts by what differs, shown until the scope closes. */
export const tally = (
  owner: Owner,
  definition: Definition<"counter">,
  attribute: string,
  attributes: Readonly<Record<string, string>> = {}
): Effect.Effect<Tally, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => new Tally(owner, definition, attribute, attributes)),
    (made) => Effect.sync(() => made.remove())
  )

/** The names of those who show no series, by registry and kind of owner: theirs are not in it. */
const silent = new WeakMap<object, Map<Owned, Set<string>>>()

const silentIn = (registry: object, owner: Owned): Set<string> => {
  let owners = silent.get(registry)
  if (owners === undefined) silent.set(registry, owners = new Map())
  let names = owners.get(owner)
  if (names === undefined) owners.set(owner, names = new Set())
  return names
}

/** What series say whose they are with. */
export type Owned = "client" | "server" | "connect"

/** A name that is its owner's alone. */
export interface OwnName {
  readonly name: string
  /** Gives it up: when there is nothing any more that says it. */
  readonly free: () => void
}

/**
 * A name that nobody else of the registry of `context` has as `owner`, this one or with a number: two clients of one name would take each other's
 * series for their own. `shows`: it has series from now on, and the name until they are gone; without, until it is given up.
 */
export const ownName = (owner: Owned, name: string, shows: boolean, context: Context.Context<never>): OwnName => {
  const registry = Context.get(context, Metric.MetricRegistry)
  const others = silentIn(registry, owner)
  const used = new Set(Array.from(registry.values(), ({ attributes }) => attributes?.[owner]))
  let own = name
  for (let nth = 2; used.has(own) || others.has(own); nth++) own = `${name}-${nth}`
  if (shows) return { name: own, free: ignore }
  others.add(own)
  let had = true
  return {
    name: own,
    free: () => {
      if (had) others.delete(own)
      had = false
    }
  }
}

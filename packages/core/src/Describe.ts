/** The assembled stack of a client or a server, as plain data and as text: its stages, the options in force, the state of each, the last faults. */
import type { Fault } from "./Faults.ts"
import { mostValues, plain } from "./internal/plain.ts"
import { textOf } from "./internal/textOf.ts"
import type { Observed, StackNode } from "./Observed.ts"

/** An option in force, and whether somebody gave it. */
export interface OptionInForce {
  readonly value: unknown
  readonly from: "default" | "given"
}

/** One stage. */
export interface DescribedStage {
  /** What it is for: `dispatcher`, `balancer`, `pool`, ... */
  readonly role: string
  /** One sentence. */
  readonly description: string
  /** By the names that options have where they are given. */
  readonly options: Readonly<Record<string, OptionInForce>>
  /** At this moment. */
  readonly state: unknown
}

/** How much is described of what there may be thousands of. */
export interface DescribeBounds {
  /**
   * How many endpoints of a set: those that are not well before the others, then those with the most load. What is left out is counted in
   * `endpointsLeftOut` of the balancer's state. Default: all.
   */
  readonly endpoints?: number | undefined
}

/** A client or a server at one moment, as JSON can hold it. Secrets are not in it. */
export interface Description {
  readonly kind: "client" | "server"
  readonly name: string
  /** What its series say as `client` or `server`. */
  readonly id: string
  /** From the caller down to the wire; of a server from the wire up. */
  readonly stages: ReadonlyArray<DescribedStage>
  /** The newest first. */
  readonly faults: ReadonlyArray<Fault>
}

/**
 * The options of a stage for its node: `inForce` by the names that `options` has, each with whether `options` gave it.
 *
 *     options: given(options, { maxWaiting, connectTimeout: duration(connectTimeoutMillis) })
 */
export const given = (
  options: object | undefined,
  inForce: Readonly<Record<string, unknown>>
): Readonly<Record<string, OptionInForce>> => {
  const said = options as Readonly<Record<string, unknown>> | undefined
  return Object.fromEntries(
    Object.entries(inForce).map(([name, value]) => [
      name,
      { value, from: said?.[name] === undefined ? "default" : "given" }
    ])
  )
}

/** How many a stage shows of what is in a list of its state. */
const listed = 100

/**
 * A list of a stage's state, under its name: the first 100, and in `...LeftOut` how many more there are, if there are.
 *
 *     snapshot: () => ({ ...list("connections", connections, (connection) => ({ state: connection.state })) })
 */
export const list = <Name extends string, A, B>(
  name: Name,
  all: Iterable<A> & { readonly size: number },
  view: (one: A) => B
): { readonly [_ in Name]: ReadonlyArray<B> } & { readonly [_ in `${Name}LeftOut`]: number | undefined } => {
  const shown: Array<B> = []
  for (const one of all) {
    if (shown.length === listed) break
    shown.push(view(one))
  }
  return { [name]: shown, [`${name}LeftOut`]: all.size > listed ? all.size - listed : undefined } as never
}

/** A duration as an option in force. */
export const duration = (millis: number): string => `${millis} ms`

const optionsOf = (options: Readonly<Record<string, OptionInForce>>): Readonly<Record<string, OptionInForce>> =>
  Object.fromEntries(
    Object.entries(options).map(([name, { from, value }]) => [name, { value: plain(value, name), from }])
  )

/** The state of a stage; one that cannot tell must not keep the others from being seen. */
const stateOf = (snapshot: StackNode["snapshot"], bounds: DescribeBounds, most: number): unknown => {
  try {
    return plain(snapshot(bounds), "", most)
  } catch (cause) {
    return { unknown: plain(textOf(cause)) }
  }
}

/** More than an endpoint has values. */
const valuesOfEndpoint = 100

/** A bound on what a stage of somebody's may show of itself, far over what ten thousand endpoints are. */
const mostOfAll = 10_000 * valuesOfEndpoint

/**
 * What a client or a server is made of, and how each part is. Nothing else goes on meanwhile: with thousands of endpoints it takes a tenth of a
 * second, unless `bounds` says how many of them are enough.
 */
export const describe = (observed: Observed, bounds: DescribeBounds = {}): Description => {
  const { endpoints } = bounds
  const most = endpoints === undefined ? mostOfAll : Math.min(mostValues + endpoints * valuesOfEndpoint, mostOfAll)
  const nodes = observed.kind === "server" ? observed.nodes() : observed.nodes().toReversed()
  return {
    kind: observed.kind,
    name: observed.name,
    id: observed.id,
    stages: nodes.map(({ description, options, role, snapshot }) => ({
      role,
      description,
      options: optionsOf(options),
      state: stateOf(snapshot, bounds, most)
    })),
    faults: observed.faults.list
  }
}

/** On one line, whatever it is. */
const shown = (value: unknown): string =>
  (typeof value === "string" ? value : JSON.stringify(value) ?? "none").replace(/[\r\n]+/g, " ")

const isNested = (value: unknown): value is object => typeof value === "object" && value !== null

/** Lines of a value: what is flat on one line, the rest under its name. */
function* lines(value: unknown, indent: string): Iterable<string> {
  if (value === undefined) return
  if (!isNested(value) || Array.isArray(value)) return yield indent + shown(value)
  const entries = Object.entries(value)
  const flat = entries.flatMap(([name, item]) => isNested(item) || item === undefined ? [] : [`${name} ${shown(item)}`])
  if (flat.length > 0) yield indent + flat.join(", ")
  for (const [name, item] of entries) {
    if (!isNested(item)) continue
    if (!Array.isArray(item)) {
      if (Object.values(item).some(isNested)) {
        yield `${indent}${name}:`
        yield* lines(item, `${indent}  `)
      } else {yield `${indent}${name}: ${
          Object.entries(item).map(([key, each]) => `${key} ${shown(each)}`).join(", ") || "none"
        }`}
    } else if (item.length === 0) yield `${indent}${name}: none`
    else if (item.every((one) => isNested(one) && !Array.isArray(one))) {
      yield `${indent}${name}:`
      for (const one of item) {
        let lead = "- "
        for (const line of lines(one, "")) {
          yield `${indent}  ${lead}${line}`
          lead = "  "
        }
      }
    } else yield `${indent}${name}: ${shown(item)}`
  }
}

/** A description for people: one paragraph a stage. */
export const render = ({ faults, id, kind, name, stages }: Description): string => {
  const all = [`${kind} ${name}${id === name ? "" : ` (${id})`}`]
  for (const { description, options, role, state } of stages) {
    all.push(`${role}: ${description}`)
    for (const [option, { from, value }] of Object.entries(options)) {
      all.push(`    ${option} = ${shown(value)}${from === "given" ? " (given)" : ""}`)
    }
    for (const line of lines(state, "    ")) all.push(line)
  }
  if (faults.length > 0) all.push("lately:")
  for (const { at, cause, endpoint, what } of faults) {
    const where = endpoint === undefined ? "" : `${endpoint} `
    all.push(`    ${new Date(at).toISOString()} ${where}${what}${cause === undefined ? "" : `: ${shown(cause)}`}`)
  }
  return all.join("\n")
}

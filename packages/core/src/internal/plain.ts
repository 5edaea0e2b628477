/** Plain data without secrets out of whatever it is: as JSON can hold it, and as much of it as somebody can look at. */
import * as Redacted from "effect/Redacted"
import { hidden, isSecret, textWithoutSecrets, uriWithoutSecrets } from "./secrets.ts"
import { textOf } from "./textOf.ts"

/** How deep plain data goes. */
const deepest = 8

/** How many values it has, unless more are asked for. */
export const mostValues = 20_000

/** In place of what is left out. */
const left = "..."

/** In place of what throws when it is looked at. */
const broken = "cannot be read"

/** Names of records whose keys say nothing of their values: methods, services and errors are called as whoever calls them likes. */
const dictionary = /^(methods|services|failures)$/

/** ZooKeeper's sessions have numbers, which say only which one it is. */
const isSessionId = (name: string, value: string) => name === "session" && /^(0x[\da-f]{1,16}|\d{1,20})$/i.test(value)

/** What may be a name, and is no sentence. */
const nameLike = /^[\w-]+$/

/** What is hidden for its name: nothing, what has a secret's name itself, or all text. */
type Hiding = "nothing" | "named" | "all"

/** One walk over a value. */
class Walk {
  #most: number
  /** What the value is in. */
  readonly #around: Array<object> = []

  constructor(most: number) {
    this.#most = most
  }

  of(value: unknown, name: string, hiding: Hiding): unknown {
    if (--this.#most < 0) return left
    try {
      return this.#of(value, name, hiding)
    } catch {
      return broken
    }
  }

  record(entries: Iterable<readonly [string, unknown]>, hiding: Hiding): Readonly<Record<string, unknown>> {
    const all: Array<[string, unknown]> = []
    for (const [key, item] of entries) {
      if (item === undefined) continue
      if (this.#most <= 0) {
        all.push([left, left])
        break
      }
      all.push([textWithoutSecrets(key), this.of(item, key, hiding)])
    }
    return Object.fromEntries(all)
  }

  #of(value: unknown, name: string, hiding: Hiding): unknown {
    switch (typeof value) {
      case "undefined":
      case "boolean":
        return value
      case "number":
        if (hiding !== "nothing" && isSecret(name, "number")) return hidden
        return Number.isFinite(value) ? value : String(value)
      case "string":
        return this.#text(value, name, hiding)
      case "function":
        return "a function"
      case "object":
        return value === null ? null : this.#object(value, name, hiding)
      default:
        return String(value)
    }
  }

  #text(value: string, name: string, hiding: Hiding): string {
    if (hiding === "all" || hiding === "named" && isSecret(name, "text") && !isSessionId(name, value)) return hidden
    return /^ur[il]s?$/i.test(name) ? uriWithoutSecrets(value) : textWithoutSecrets(value)
  }

  #object(value: object, name: string, hiding: Hiding): unknown {
    if (Redacted.isRedacted(value)) return hidden
    if (value instanceof Error) return this.#text(textOf(value), name, hiding)
    if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return `${value.byteLength} bytes`
    if (this.#around.length === deepest || this.#around.includes(value)) return left
    this.#around.push(value)
    try {
      return this.#nested(value, name, hiding === "named" && isSecret(name, "all") ? "all" : hiding)
    } finally {
      this.#around.pop()
    }
  }

  #nested(value: object, name: string, hiding: Hiding): unknown {
    if (Array.isArray(value)) return this.#list(value, name, hiding)
    if (value instanceof Set) return this.#list([...value], name, hiding)
    const keys = dictionary.test(name) ? "nothing" : hiding
    if (value instanceof Map) return this.record(textKeys(value), keys)
    if ("toJSON" in value && typeof value.toJSON === "function") return this.of(value.toJSON(), name, hiding)
    return this.record(properties(value), keys)
  }

  #list(value: ReadonlyArray<unknown>, name: string, hiding: Hiding): ReadonlyArray<unknown> {
    const all: Array<unknown> = []
    for (let at = 0; at < value.length; at++) {
      if (this.#most <= 0) {
        all.push(left)
        break
      }
      // Fields of a header, as pairs or one after the other: what follows a name is its value.
      const before = value[at - 1]
      const named = hiding === "named" && typeof before === "string" && nameLike.test(before) &&
        isSecret(before, "text")
      all.push(this.of(value[at], named ? before : name, hiding))
    }
    return all
  }
}

function* textKeys(map: ReadonlyMap<unknown, unknown>): Iterable<readonly [string, unknown]> {
  for (const [key, item] of map) yield [textOf(key), item]
}

/** Properties as they can be read: one that throws says so. */
function* properties(value: object): Iterable<readonly [string, unknown]> {
  for (const key of Object.keys(value)) {
    let item: unknown
    try {
      item = (value as Record<string, unknown>)[key]
    } catch {
      item = broken
    }
    yield [key, item]
  }
}

/**
 * A value as JSON can hold it, without secrets; `name` is what it is the value of. Numbers that JSON has not are text, of an error its message
 * stays; what is nested more than 8 deep or in itself, and what is more than `most` values, is left out. It never throws.
 */
export const plain = (value: unknown, name = "", most = mostValues): unknown => new Walk(most).of(value, name, "named")

/** Plain data without secrets out of an object. */
export const withoutSecrets = (value: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> =>
  new Walk(mostValues).record(properties(value), "named")

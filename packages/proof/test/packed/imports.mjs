// Imports a module in a fresh process, and fails when that did more than define: when it made a resource (a socket, a timer, even
// one that does not hold the process; modules that load make promises alone), listened on the process, or changed a global.
import { deepStrictEqual } from "node:assert/strict"
import { createHook } from "node:async_hooks"

const plain = (owner, key) => Object.getOwnPropertyDescriptor(owner, key)?.value

/** All that a module could add to or replace, by name: globals, what they and their prototypes hold, the environment, listeners. */
const look = () => {
  const seen = new Map()
  const holdings = (name, owner) => {
    for (const key of Reflect.ownKeys(owner)) seen.set(`${name}.${String(key)}`, plain(owner, key))
  }
  for (const key of Reflect.ownKeys(globalThis)) {
    const value = plain(globalThis, key)
    seen.set(String(key), value)
    for (const [name, owner] of [[String(key), value], [`${String(key)}.prototype`, value?.prototype]]) {
      if (owner !== globalThis && (typeof owner === "function" || (typeof owner === "object" && owner !== null))) {
        holdings(name, owner)
      }
    }
  }
  holdings("process.env", process.env)
  for (const event of process.eventNames()) seen.set(`listeners of ${String(event)}`, process.listenerCount(event))
  seen.set("active resources", process.getActiveResourcesInfo().join())
  return seen
}

// Node loads some of its globals when they are looked at, and makes the resolver that all of a process share for whoever imports it first.
look()
await import("node:dns")
const made = new Set()
const before = look()
const hook = createHook({ init: (_, type) => made.add(type) }).enable()
await import(process.argv[2])
hook.disable()
const after = look()
const names = [...new Set([...before.keys(), ...after.keys()])]
const changed = names.filter((name) =>
  before.has(name) !== after.has(name) || !Object.is(before.get(name), after.get(name))
)
deepStrictEqual({ changed, made: [...made] }, { changed: [], made: ["PROMISE"] })

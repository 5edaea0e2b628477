/** Watches: what they hear of, once, and what sets none. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { bytes, type Case, ear, nothing, pair, refused, same } from "./Case.ts"

/** The cases. A `sync` comes after whatever the server had to tell before it. */
export const watches: ReadonlyArray<Case> = [
  pair("get hears of the next change of the data, and of no other", ({ one, root, two }) =>
    Effect.gen(function*() {
      const path = `${root}/node`
      const heard: Array<string> = []
      yield* one.create(path, nothing)
      yield* one.get(path, ear(heard)("get"))
      yield* same("watches", one.watches(), 1)
      yield* two.create(`${path}/child`, nothing)
      yield* two.set(path, bytes("1"))
      yield* two.set(path, bytes("2"))
      yield* two.delete(`${path}/child`)
      yield* two.delete(path)
      yield* one.sync(root)
      yield* same("heard", heard, ["get DataChanged"])
      yield* same("watches after", one.watches(), 0)
    })),
  pair(
    "exists hears of a node that is made, and of one that is there like get",
    ({ one, root, two }) =>
      Effect.gen(function*() {
        const path = `${root}/node`
        const heard: Array<string> = []
        const on = ear(heard)
        yield* one.exists(path, on("first"))
        yield* two.create(path, nothing)
        yield* one.sync(root)
        yield* same("made", heard.splice(0), ["first Created"])
        yield* one.exists(path, on("second"))
        yield* two.set(path, nothing)
        yield* one.sync(root)
        yield* same("rewritten", heard.splice(0), ["second DataChanged"])
        yield* one.exists(path, on("third"))
        yield* two.delete(path)
        yield* one.sync(root)
        yield* same("deleted", heard, ["third Deleted"])
      })
  ),
  pair(
    "children hears of a child that comes or goes, not of its data, and of the end",
    ({ one, root, two }) =>
      Effect.gen(function*() {
        const path = `${root}/node`
        const heard: Array<string> = []
        const on = ear(heard)
        yield* one.create(path, nothing)
        yield* one.children(path, on("first"))
        yield* two.create(`${path}/child`, nothing)
        yield* one.sync(root)
        yield* same("a child came", heard.splice(0), ["first ChildrenChanged"])
        yield* one.children(path, on("second"))
        yield* two.set(`${path}/child`, bytes("1"))
        yield* two.set(path, bytes("1"))
        yield* one.sync(root)
        yield* same("data", heard, [])
        yield* two.delete(`${path}/child`)
        yield* one.sync(root)
        yield* same("the child went", heard.splice(0), ["second ChildrenChanged"])
        yield* one.children(path, on("third"))
        yield* two.delete(path)
        yield* one.sync(root)
        yield* same("the end", heard, ["third Deleted"])
        yield* same("watches", one.watches(), 0)
      })
  ),
  pair("a read that fails sets no watch", ({ one, root, two }) =>
    Effect.gen(function*() {
      const path = `${root}/node`
      const heard: Array<string> = []
      yield* refused("get", one.get(path, ear(heard)("get")), "NoNode")
      yield* refused("children", one.children(path, ear(heard)("children")), "NoNode")
      yield* same("watches", one.watches(), 0)
      yield* two.create(path, nothing)
      yield* two.delete(path)
      yield* one.sync(root)
      yield* same("heard", heard, [])
    })),
  pair(
    "all who watch a node hear of it once each, and are one watch for each kind",
    ({ one, root, two }) =>
      Effect.gen(function*() {
        const path = `${root}/node`
        const heard: Array<string> = []
        const on = ear(heard)
        yield* one.create(path, nothing)
        yield* one.get(path, on("get"))
        yield* one.get(path, on("get again"))
        yield* one.exists(path, on("exists"))
        yield* same("watches", one.watches(), 1)
        yield* one.children(path, on("children"))
        yield* same("with the children", one.watches(), 2)
        yield* two.set(path, nothing)
        yield* one.sync(root)
        yield* same("rewritten", heard.splice(0).toSorted(), [
          "exists DataChanged",
          "get DataChanged",
          "get again DataChanged"
        ])
        yield* one.get(path, on("get"))
        yield* two.delete(path)
        yield* one.sync(root)
        yield* same("deleted", heard.toSorted(), ["children Deleted", "get Deleted"])
        yield* same("watches after", one.watches(), 0)
      })
  ),
  pair(
    "one who watches again in the watcher hears of each change once",
    ({ one, root, two }) =>
      Effect.gen(function*() {
        const path = `${root}/node`
        yield* one.create(path, nothing)
        const seen: Array<number> = []
        const services = yield* Effect.context<never>()
        const watch: Effect.Effect<void, unknown> = Effect.suspend(() =>
          Effect.map(one.get(path, () => Effect.runForkWith(services)(watch)), ({ stat }) => {
            seen.push(stat.version)
          })
        )
        yield* watch
        for (let version = 1; version <= 20; version++) {
          yield* two.set(path, nothing)
          // Twice: the read that the first sync lets out is answered before the second.
          yield* one.sync(path)
          yield* one.sync(path)
        }
        yield* same("versions", seen, Array.from({ length: 21 }, (_, version) => version))
        yield* same("watches", one.watches(), 1)
      })
  ),
  pair("one who is set again on a node hears of it once", ({ one, root, two }) =>
    Effect.gen(function*() {
      const heard: Array<string> = []
      const watcher = ear(heard)("watcher")
      yield* one.get(root, watcher)
      yield* one.get(root, watcher)
      yield* one.exists(root, watcher)
      yield* two.set(root, nothing)
      yield* one.sync(root)
      yield* same("heard", heard, ["watcher DataChanged"])
    })),
  pair(
    "one who is taken off a node hears of it no more, and others do",
    ({ one, root, two }) =>
      Effect.gen(function*() {
        const path = `${root}/node`
        const heard: Array<string> = []
        const [stays, goes] = [ear(heard)("stays"), ear(heard)("goes")]
        yield* one.create(path, nothing)
        yield* one.get(root, goes)
        yield* one.get(path, stays)
        yield* one.get(path, goes)
        yield* one.exists(path, goes)
        yield* one.children(path, goes)
        yield* same("watches", one.watches(), 3)
        one.unwatch(path, goes)
        one.unwatch(path, goes)
        one.unwatch(`${root}/other`, stays)
        yield* same("watches after", one.watches(), 2)
        yield* two.create(`${path}/child`, nothing)
        yield* two.set(path, nothing)
        yield* one.sync(root)
        yield* same("heard", heard.splice(0), ["stays DataChanged"])
        yield* two.set(root, nothing)
        yield* one.sync(root)
        yield* same("heard of the other node", heard, ["goes DataChanged"])
        yield* same("watches in the end", one.watches(), 0)
      })
  ),
  pair(
    "one who is taken off and set again, however often, hears of a change once",
    ({ one, root, two }) =>
      Effect.gen(function*() {
        const missing = `${root}/missing`
        const heard: Array<string> = []
        const watcher = ear(heard)("watcher")
        for (let round = 0; round < 20; round++) {
          yield* one.get(root, watcher)
          yield* one.children(root, watcher)
          yield* one.exists(missing, watcher)
          yield* same("watches", one.watches(), 3)
          one.unwatch(root, watcher)
          one.unwatch(missing, watcher)
          yield* same("watches after", one.watches(), 0)
        }
        yield* one.get(root, watcher)
        yield* two.set(root, nothing)
        yield* one.sync(root)
        yield* same("rewritten", heard.splice(0), ["watcher DataChanged"])
        yield* one.children(root, watcher)
        yield* one.exists(missing, watcher)
        yield* two.create(missing, nothing)
        yield* one.sync(root)
        yield* same("made", heard.toSorted(), ["watcher ChildrenChanged", "watcher Created"])
      })
  ),
  pair("a change of one's own is heard of too", ({ one, root }) =>
    Effect.gen(function*() {
      const heard: Array<string> = []
      yield* one.children(root, ear(heard)("children"))
      yield* one.create(`${root}/node`, nothing)
      yield* same("heard", heard, ["children ChildrenChanged"])
    })),
  pair("a read whose caller has gone keeps no watcher", ({ one, root, two }) =>
    Effect.gen(function*() {
      const heard: Array<string> = []
      const reading = yield* Effect.forkChild(one.get(root, ear(heard)("get")), { startImmediately: true })
      yield* Fiber.interrupt(reading)
      yield* one.sync(root)
      yield* same("watches", one.watches(), 0)
      yield* two.set(root, nothing)
      yield* one.sync(root)
      yield* same("heard", heard, [])
    }))
]

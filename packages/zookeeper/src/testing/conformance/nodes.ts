/** Nodes: made, read, rewritten, deleted, and what is refused. */
import * as Effect from "effect/Effect"
import { bytes, type Case, nothing, pair, refused, same, text } from "./Case.ts"

/** Texts that are no path. */
const noPaths = ["", "a", "/a/", "//", "/a//b", "/./a", "/a/..", "/a\u0000b", "/a\ud800"]

/** The cases. */
export const nodes: ReadonlyArray<Case> = [
  pair(
    "a node is made, read, rewritten and deleted, and its facts say so",
    ({ one, root, two }) =>
      Effect.gen(function*() {
        const path = `${root}/node`
        yield* same("the path", yield* one.create(path, bytes("first")), path)
        const first = yield* two.get(path)
        yield* same("the data", text(first.data), "first")
        yield* same("facts", {
          ...first.stat,
          created: 0,
          modified: 0,
          createdZxid: 0,
          modifiedZxid: 0,
          childrenZxid: 0
        }, {
          version: 0,
          childrenVersion: 0,
          aclVersion: 0,
          created: 0,
          modified: 0,
          createdZxid: 0,
          modifiedZxid: 0,
          childrenZxid: 0,
          dataLength: 5,
          childCount: 0,
          owner: undefined
        })
        yield* same("the zxid of the data", first.stat.modifiedZxid, first.stat.createdZxid)
        const set = yield* two.set(path, bytes("second one"))
        yield* same("version, length", [set.version, set.dataLength], [1, 10])
        yield* same("the zxid has grown", set.modifiedZxid > set.createdZxid, true)
        yield* one.sync(path)
        yield* same("the data again", text((yield* one.get(path)).data), "second one")
        yield* same("exists", (yield* one.exists(path))?.version, 1)
        const parent = yield* one.children(root)
        yield* same("children", parent.children, ["node"])
        yield* same("the parent", [parent.stat.childCount, parent.stat.childrenVersion], [1, 1])
        yield* one.delete(path)
        yield* two.sync(root)
        yield* same("exists no more", yield* two.exists(path), undefined)
        yield* same("the parent after", (yield* two.exists(root))?.childrenVersion, 2)
      })
  ),
  pair(
    "data of any bytes, none and many come back as they were",
    ({ one, root, two }) =>
      Effect.forEach([0, 1, 256, 200_000], (length) =>
        Effect.gen(function*() {
          const path = `${root}/${length}`
          const data = Uint8Array.from({ length }, (_, index) => index % 256)
          // Part of a larger buffer, as slices are.
          const padded = new Uint8Array(length + 2)
          padded.set(data, 1)
          yield* one.create(path, padded.subarray(1, length + 1))
          yield* two.sync(path)
          const { data: read } = yield* two.get(path)
          yield* same(`${length} bytes`, Buffer.from(read).equals(data), true)
        }), { discard: true })
  ),
  pair("nothing can be done with a node that is not there", ({ one, root }) =>
    Effect.gen(function*() {
      const path = `${root}/none`
      yield* refused("get", one.get(path), "NoNode")
      yield* refused("children", one.children(path), "NoNode")
      yield* same("exists", yield* one.exists(path), undefined)
      yield* refused("set", one.set(path, nothing), "NoNode")
      yield* refused("delete", one.delete(path), "NoNode")
      yield* refused("acl", one.acl(path), "NoNode")
      yield* refused("setAcl", one.setAcl(path, [{ scheme: "world", id: "anyone", permissions: "r" }]), "NoNode")
      yield* refused("create below it", one.create(`${path}/child`, nothing), "NoNode")
    })),
  pair("a node is made once, and goes after its children, at its version", ({ one, root }) =>
    Effect.gen(function*() {
      const path = `${root}/node`
      yield* one.create(path, nothing)
      yield* refused("create again", one.create(path, nothing), "NodeExists")
      yield* one.create(`${path}/child`, nothing)
      yield* refused("delete with a child", one.delete(path), "NotEmpty")
      yield* one.delete(`${path}/child`)
      yield* refused("set at another version", one.set(path, nothing, 1), "BadVersion")
      yield* same("set at its version", (yield* one.set(path, nothing, 0)).version, 1)
      yield* refused("delete at another version", one.delete(path, 0), "BadVersion")
      yield* one.delete(path, 1)
    })),
  pair("what is no path is refused", ({ one }) =>
    Effect.forEach(noPaths, (path) =>
      Effect.gen(function*() {
        yield* refused(`get ${path}`, one.get(path, () => {}), "BadArguments")
        yield* refused(`children ${path}`, one.children(path, () => {}), "BadArguments")
        yield* refused(`exists ${path}`, one.exists(path, () => {}), "BadArguments")
        yield* refused(`create ${path}`, one.create(path, nothing), "BadArguments")
        yield* refused(`set ${path}`, one.set(path, nothing), "BadArguments")
        yield* refused(`delete ${path}`, one.delete(path), "BadArguments")
        yield* refused(`acl ${path}`, one.acl(path), "BadArguments")
        yield* same("watches", one.watches(), 0)
      }), { discard: true })),
  pair("sequential nodes are numbered by their parent", ({ one, root, two }) =>
    Effect.gen(function*() {
      const names: Array<string> = []
      for (const session of [one, two, one]) {
        names.push(yield* session.create(`${root}/member_`, nothing, { mode: "persistentSequential" }))
      }
      yield* same("names", names, ["0", "1", "2"].map((digit) => `${root}/member_000000000${digit}`))
      yield* one.delete(names[2]!)
      const next = yield* one.create(`${root}/`, nothing, { mode: "ephemeralSequential" })
      yield* same("the next, without a prefix", next, `${root}/0000000003`)
    })),
  pair(
    "an ephemeral node is its session's, has no children, and goes with it",
    ({ one, root, two }) =>
      Effect.gen(function*() {
        const path = yield* one.create(`${root}/member_`, bytes("me"), { mode: "ephemeralSequential" })
        yield* one.create(`${root}/plain`, nothing, { mode: "ephemeral" })
        yield* two.sync(root)
        yield* same("the owner", (yield* two.get(path)).stat.owner, one.status().id)
        yield* same("another's", one.status().id === two.status().id, false)
        yield* refused("a child", two.create(`${path}/child`, nothing), "NoChildrenForEphemerals")
      })
  ),
  pair("a thousand children are listed, and read at once", ({ one, root, two }) =>
    Effect.gen(function*() {
      const names = Array.from({ length: 1000 }, (_, index) => `${"a-long-name-of-a-member-".repeat(5)}${index}`)
      yield* Effect.forEach(names, (name) => one.create(`${root}/${name}`, bytes(name)), { concurrency: 100 })
      yield* two.sync(root)
      const { children } = yield* two.children(root)
      yield* same("children", children.toSorted(), names.toSorted())
      const read = yield* Effect.forEach(names, (name) => two.get(`${root}/${name}`), { concurrency: "unbounded" })
      yield* same("data", read.every(({ data }, index) => text(data) === names[index]), true)
      yield* Effect.forEach(names, (name) => two.delete(`${root}/${name}`), { concurrency: "unbounded" })
    }))
]

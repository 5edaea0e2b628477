/** Who may do what. */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { Acl } from "../../Session.ts"
import { type Case, ear, nothing, pair, refused, same, until } from "./Case.ts"

const creator: ReadonlyArray<Acl> = [{ scheme: "auth", id: "", permissions: "rwcda" }]

/** The cases. */
export const access: ReadonlyArray<Case> = [
  pair(
    "a node is its creator's alone, until another shows the same credentials",
    ({ one, root, two }) =>
      Effect.gen(function*() {
        const path = `${root}/node`
        yield* one.auth("digest", Redacted.make("me:secret"))
        yield* same("made", yield* one.create(path, nothing, { acl: creator }), path)
        yield* two.sync(path)
        yield* refused("get", two.get(path), "NoAuth")
        yield* refused("children", two.children(path, () => {}), "NoAuth")
        yield* refused("set", two.set(path, nothing), "NoAuth")
        yield* refused("create below it", two.create(`${path}/child`, nothing), "NoAuth")
        yield* refused("setAcl", two.setAcl(path, [{ scheme: "world", id: "anyone", permissions: "r" }]), "NoAuth")
        yield* same("watches", two.watches(), 0)
        yield* two.auth("digest", Redacted.make("me:wrong"))
        yield* refused("get with a wrong password", two.get(path), "NoAuth")
        yield* two.auth("digest", Redacted.make("me:secret"))
        yield* two.get(path)
        const { acl } = yield* two.acl(path)
        yield* same("the access list", acl.map(({ permissions, scheme }) => [scheme, permissions]), [[
          "digest",
          "rwcda"
        ]])
        yield* two.setAcl(path, [{ scheme: "world", id: "anyone", permissions: "rd" }, ...acl])
      })
  ),
  pair(
    "an access list is read as it was written, and changed at its version",
    ({ one, root }) =>
      Effect.gen(function*() {
        const path = `${root}/node`
        yield* one.create(path, nothing)
        yield* same("of everybody", (yield* one.acl(path)).acl, [{
          scheme: "world",
          id: "anyone",
          permissions: "rwcda"
        }])
        const readers = [{ scheme: "digest", id: "you:hash", permissions: "r" }, {
          scheme: "world",
          id: "anyone",
          permissions: "rda"
        }]
        yield* refused("at another version", one.setAcl(path, readers, 7), "BadVersion")
        yield* one.setAcl(path, readers, 0)
        const { acl, stat } = yield* one.acl(path)
        yield* same("permissions", acl.map(({ permissions, scheme }) => [scheme, permissions]), [["digest", "r"], [
          "world",
          "rda"
        ]])
        yield* same("its version", [stat.aclVersion, stat.version], [1, 0])
        yield* refused("set", one.set(path, nothing), "NoAuth")
      })
  ),
  pair("what is no access list is refused, and nothing is left of its node", ({ one, root }) =>
    Effect.gen(function*() {
      const wrong: ReadonlyArray<ReadonlyArray<Acl>> = [
        [],
        [{ scheme: "world", id: "anyone", permissions: "" }],
        [{ scheme: "world", id: "anyone", permissions: "rx" }],
        [{ scheme: "nonsense", id: "me", permissions: "r" }],
        [{ scheme: "auth", id: "", permissions: "r" }]
      ]
      for (const acl of wrong) {
        yield* refused("setAcl", one.setAcl(root, acl), "InvalidAcl")
        yield* refused("create", one.create(`${root}/node`, nothing, { acl }), "InvalidAcl")
        yield* same("left", yield* one.exists(`${root}/node`), undefined)
      }
    })),
  pair(
    "credentials that are none are refused, and the session goes on without them",
    ({ one, root, two }) =>
      Effect.gen(function*() {
        const heard: Array<string> = []
        const path = yield* one.create(`${root}/member_`, nothing, { mode: "ephemeralSequential" })
        yield* one.get(root, ear(heard)("get"))
        const { generation, id } = one.status()
        const states: Array<string> = []
        one.subscribe(({ state }) => states.push(state))
        yield* refused("auth", one.auth("nonsense", Redacted.make("me")), "AuthFailed")
        yield* until(one, () => one.status().state === "Connected" && one.status().generation > generation)
        // Before the refusal is known, the connection may have been lost and made again.
        yield* same("states", states.slice(-2), ["AuthFailed", "Connected"])
        // The native client does not always tell of a refusal: then a handle is given up for it, and is a generation of its own.
        yield* same("id", one.status().id, id)
        yield* same("heard", heard, ["get Lost"])
        yield* one.get(root)
        yield* two.sync(path)
        yield* same("its node", (yield* two.exists(path))?.owner, id)
      })
  )
]

import { assert, describe, it } from "@effect/vitest"
import { type Announcement, Endpoint, InvalidOption, ServerSet } from "@scales-rpc/core"
import { Effect, Exit, Scope } from "effect"

const endpoint = Endpoint.tcp("a", 1)

/** Announces nowhere, and keeps what it was asked. */
const recorder = <const Scheme extends string>(scheme: Scheme) => {
  const asked: Array<unknown> = []
  const announcement: Announcement = {
    announced: Effect.void,
    state: () => ({ _tag: "Announced", name: "member_0" }),
    update: ({ shard }) =>
      shard === -1
        ? Effect.fail(new InvalidOption({ option: "shard", got: shard, expected: "a whole number" }))
        : Effect.void
  }
  const layer = ServerSet.announcer(scheme, (uri, rest, endpoint, options) =>
    Effect.acquireRelease(
      Effect.sync(() => {
        asked.push([uri, rest, endpoint, options])
        return announcement
      }),
      () => Effect.sync(() => void asked.push("left"))
    ))
  return { asked, announcement, layer }
}

describe("announcing at a URI", () => {
  it.effect("is done by the announcer of its scheme, until the scope closes", () =>
    Effect.gen(function*() {
      const { announcement, asked, layer } = recorder("Test")
      const scope = yield* Scope.make()
      const made = yield* ServerSet.announce("TEST://here/x#y", endpoint, { shard: 3 }).pipe(
        Effect.provide(layer),
        Scope.provide(scope)
      )
      assert.strictEqual(made, announcement)
      assert.deepStrictEqual(asked, [["TEST://here/x#y", "here/x#y", endpoint, { shard: 3 }]])
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(asked.at(-1), "left")
    }))

  it.effect("says nothing more of an endpoint than it is told to", () =>
    Effect.gen(function*() {
      const { asked, layer } = recorder("test")
      yield* ServerSet.announce("test://here", endpoint).pipe(Effect.provide(layer))
      assert.deepStrictEqual(asked, [["test://here", "here", endpoint, {}]])
    }))

  it.effect("takes an announcer that is provided over that of an optional package", () =>
    Effect.gen(function*() {
      const { asked, layer } = recorder("zk")
      yield* ServerSet.announce("zk://here/path", endpoint).pipe(Effect.provide(layer))
      assert.deepStrictEqual(asked, [["zk://here/path", "here/path", endpoint, {}]])
    }))

  it.effect("is possible with announcers only, which a wrong scheme names", () =>
    Effect.gen(function*() {
      const { layer } = recorder("test")
      const resolver = ServerSet.resolver("resolved", () => Effect.die("not asked"))
      for (const uri of ["tcp://a:1", "unix:///a", "resolved://a", "other://a"]) {
        const error = yield* Effect.flip(
          ServerSet.announce(uri, endpoint).pipe(Effect.provide(layer), Effect.provide(resolver))
        )
        assert.strictEqual(error._tag, "UnknownScheme", uri)
        assert.deepStrictEqual(error._tag === "UnknownScheme" && error.known, ["test", "zk"])
      }
      const error = yield* Effect.flip(ServerSet.announce("a:1", endpoint))
      assert.strictEqual(error._tag, "InvalidUri")
    }))
})

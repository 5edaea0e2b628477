import { assert, describe, it } from "@effect/vitest"
import { Endpoint, InvalidUri, ServerSet, type ServerSetState } from "@scales-rpc/core"
import { Context, Effect, Exit, Layer, Redacted, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { inspect } from "node:util"
import { FakeZooKeeper } from "../src/testing/index.ts"
import { ZooKeeper, type ZooKeeperOptions } from "../src/index.ts"
import { member, path, settle, show, zk } from "./support.ts"

/** What a stack has of a server set: its states, in a service of its own. */
const stack = (name: string, uri: string) => {
  const key = Context.Service<typeof name, ReadonlyArray<ServerSetState>>(`test/${name}`)
  const states = Effect.gen(function*() {
    const set = yield* ServerSet
    const seen: Array<ServerSetState> = []
    yield* Effect.forkScoped(Stream.runForEach(set, (state) => Effect.sync(() => void seen.push(state))))
    return seen
  })
  // Ready-made stacks end so.
  return { key, layer: Layer.effect(key, states).pipe(Layer.provide(ServerSet.fromUri(uri)), Layer.fresh) }
}

describe("a zk:// URI", () => {
  it.effect("is resolved by this package, with the ZooKeeper that is provided", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.put(`${path}/member_1`, member(1))
      const { key, layer } = stack("a", `zk://zk1${path}`)
      const seen = Context.get(yield* Layer.build(layer), key)
      yield* settle
      assert.deepStrictEqual(seen.map(show), ["Bound 1"])
      assert.lengthOf(fake.sessions(), 1)
    }).pipe(Effect.provide(zk())))

  it.effect("is announced at by this package, with the ZooKeeper that is provided", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      const { announced } = yield* ServerSet.announce(`zk://zk1${path}`, Endpoint.tcp("h", 1))
      yield* announced
      assert.lengthOf(fake.list(path), 1)
    }).pipe(Effect.provide(zk())))

  it.effect("is a stream that a program can run on its own", () =>
    Effect.gen(function*() {
      const fake = yield* FakeZooKeeper
      fake.put(`${path}/member_1`, member(1))
      const first = yield* Stream.runHead(ZooKeeper.serverSet(`ZK://zk1${path}`))
      assert.strictEqual(first._tag === "Some" ? show(first.value) : "none", "Bound 1")
      // It took its session along.
      assert.lengthOf(fake.sessions(), 0)
    }).pipe(Effect.provide(zk())))

  it.effect("is told from one of another scheme, and from none", () =>
    Effect.gen(function*() {
      for (const uri of ["tcp://h:1/a", "zk:/zk1/a", "zk1:2181/a", ""]) {
        const error = yield* Effect.flip(Stream.runHead(ZooKeeper.serverSet(uri)))
        assert.instanceOf(error, InvalidUri)
        assert.strictEqual(error.uri, uri)
      }
    }).pipe(Effect.provide(zk())))
})

// Building a client of Scales hangs on each of these.
describe("building what resolves a zk:// URI waits for nothing", () => {
  const unhappy: ReadonlyArray<[what: string, prepare: (fake: FakeZooKeeper["Service"]) => void, shown: string]> = [
    ["ZooKeeper cannot be reached", (fake) => fake.disconnect(), "Failed not connected to zk1:2181"],
    ["ZooKeeper says nothing", (fake) => fake.slow("1 hour"), ""],
    ["a member is malformed", (fake) => fake.put(`${path}/member_1`, "{"), "Bound"],
    ["no member has an endpoint of the name", (fake) => fake.put(`${path}/member_1`, member(1)), "Bound"],
    ["there is no such path", () => {}, "Neg"]
  ]
  for (const [what, prepare, shown] of unhappy) {
    it.effect(`when ${what}`, () =>
      Effect.gen(function*() {
        prepare(yield* FakeZooKeeper)
        const { key, layer } = stack("a", `zk://zk1${path}#http`)
        // No time passes until it is built.
        const seen = Context.get(yield* Layer.build(layer), key)
        yield* settle
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(seen.map(show).join(), shown)
      }).pipe(Effect.provide(zk())))
  }
})

describe("the ZooKeeper of those that were given none", () => {
  /** Builds what asks for it, and says which one it got. */
  const asks = (name: string) => {
    const key = Context.Service<typeof name, ZooKeeper["Service"]>(`test/${name}`)
    return { key, layer: Layer.fresh(Layer.effect(key, ZooKeeper.shared)) }
  }
  const [a, b] = [asks("a"), asks("b")]

  it.effect("is one for all that are built together, fresh or not", () =>
    Effect.gen(function*() {
      const context = yield* Layer.build(Layer.mergeAll(a.layer, Layer.effect(b.key, ZooKeeper.shared)))
      assert.strictEqual(Context.get(context, a.key), Context.get(context, b.key))
    }))

  it.effect("is the same for what is built in a program that they are provided to", () =>
    Effect.gen(function*() {
      const inner = yield* ZooKeeper.shared
      const context = yield* Layer.build(b.layer)
      assert.strictEqual(yield* a.key, inner)
      assert.strictEqual(yield* a.key, Context.get(context, b.key))
    }).pipe(Effect.provide(a.layer)))

  it.effect("is another for what is built apart", () =>
    Effect.gen(function*() {
      const one = yield* Effect.provide(a.key, a.layer)
      const other = yield* Effect.provide(b.key, b.layer)
      assert.notStrictEqual(one, other)
    }))

  it.effect("is private where nothing is built", () =>
    Effect.gen(function*() {
      assert.notStrictEqual(yield* ZooKeeper.shared, yield* ZooKeeper.shared)
    }).pipe(Effect.updateContext((context: Context.Context<Scope.Scope>) =>
      Context.omit(Layer.CurrentMemoMap)(context) as Context.Context<Scope.Scope>
    )))

  it.effect("lives until the last of them is closed", () =>
    Effect.gen(function*() {
      const memoMap = yield* Layer.makeMemoMap
      const [one, two, three] = [yield* Scope.make(), yield* Scope.make(), yield* Scope.make()]
      const build = <I, S>(
        { key, layer }: { key: Context.Key<I, S>; layer: Layer.Layer<I, unknown> },
        scope: Scope.Scope
      ) => Effect.map(Layer.buildWithMemoMap(layer, memoMap, scope), Context.get(key))
      const first = yield* build(a, one)
      assert.strictEqual(yield* build(b, two), first)
      yield* Scope.close(one, Exit.void)
      assert.strictEqual(yield* build(a, three), first)
      yield* Scope.close(two, Exit.void)
      yield* Scope.close(three, Exit.void)
      assert.notStrictEqual(yield* build(a, yield* Scope.make()), first)
    }))
})

describe("ZooKeeper.resolver", () => {
  it.effect("makes zk:// known to server sets and announcements, and checks its options", () =>
    Effect.gen(function*() {
      const set = yield* Effect.flip(
        Effect.provide(ServerSet.announce("zk://zk1", Endpoint.tcp("h", 1)), ZooKeeper.resolver())
      )
      assert.instanceOf(set, InvalidUri)
      const error = yield* Effect.flip(Layer.build(ZooKeeper.resolver({ sessionTimeout: 0 })))
      assert.strictEqual(error._tag, "InvalidOption")
    }))

  it.effect("is what ZooKeeper.serverSet reads with where it is provided", () =>
    Effect.gen(function*() {
      const shared = yield* ZooKeeper.shared
      assert.strictEqual(shared, yield* ZooKeeper)
      assert.strictEqual(shared.serverSets.removals, "30 seconds")
    }).pipe(Effect.provide(ZooKeeper.resolver({ removals: "30 seconds" }))))
})

describe("options are checked when the layer is built", () => {
  const credentials = Redacted.make("me:secret")
  const wrong: ReadonlyArray<[name: string, options: ZooKeeperOptions]> = [
    ["sessionTimeout", { sessionTimeout: 99 }],
    ["sessionTimeout", { sessionTimeout: "25 days" }],
    ["connectTimeout", { connectTimeout: 0 }],
    ["connectTimeout", { connectTimeout: "25 days" }],
    ["removals", { removals: "soon" as never }],
    ["removals", { removals: -1 }],
    ["empty", { empty: Infinity }],
    ["reads", { reads: 0 }],
    ["reads", { reads: 1.5 }],
    ["acl", { acl: [] }],
    ["acl", { acl: [{ scheme: "digest", id: "me:secret", permissions: "rwx" }] }],
    ["acl", { acl: [{ scheme: "world", id: "anyone", permissions: "" }] }],
    ["auth[0].scheme", { auth: [{ scheme: "", credentials }] }],
    ["auth[1].scheme", { auth: [{ scheme: "digest", credentials }, { scheme: "my digest", credentials }] }],
    ["auth[0].credentials", { auth: [{ scheme: "digest", credentials: "me:secret" as never }] }]
  ]
  for (const [name, options] of wrong) {
    const shown = inspect(options, { depth: 4, breakLength: Infinity })
    it.effect(`${name}: ${shown}`, () =>
      Effect.gen(function*() {
        const layers = [ZooKeeper.layer(options), ZooKeeper.resolver(options)]
        // The stand-in has no sessions to set up, and takes what concerns server sets.
        if (/removals|empty|reads|acl/.test(name)) layers.push(FakeZooKeeper.layer(options))
        for (const layer of layers) {
          const error = yield* Effect.flip(Layer.build(layer))
          assert.strictEqual(error.option, name)
          assert.notInclude(`${error.message} ${JSON.stringify(error)}`, "secret")
        }
      }))
  }

  it.effect("and what is right is taken", () =>
    Layer.build(ZooKeeper.layer({
      sessionTimeout: "24 days",
      connectTimeout: 1,
      removals: 0,
      empty: 0,
      reads: 1,
      acl: [{ scheme: "auth", id: "", permissions: "rwcda" }],
      auth: [{ scheme: "digest", credentials }]
    })))
})

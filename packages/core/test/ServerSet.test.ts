import { assert, describe, it } from "@effect/vitest"
import {
  Endpoint,
  type EndpointOptions,
  InvalidUri,
  resolve,
  ServerSet,
  type ServerSetChange,
  ServerSetState
} from "@scales-rpc/core"
import { Effect, Layer, Stream } from "effect"

/** The schemes that everybody knows. */
const schemes = ["dns", "file", "srv", "tcp", "unix", "zk"]

/** The states that a URI resolves to. */
const states = (uri: string) => Effect.flatMap(resolve(uri), Stream.runCollect)

/** The keys of the only state that a URI resolves to. */
const keys = (uri: string) =>
  Effect.map(states(uri), (all) => {
    assert.lengthOf(all, 1)
    const [state] = all
    return state?._tag === "Bound" ? state.endpoints.map(({ key }) => key) : []
  })

describe("a server-set URI", () => {
  const good: ReadonlyArray<[uri: string, keys: ReadonlyArray<string>]> = [
    ["tcp://127.0.0.1:8080", ["127.0.0.1:8080"]],
    ["tcp://localhost:1", ["localhost:1"]],
    ["tcp://localhost:65535", ["localhost:65535"]],
    ["TCP://localhost:80", ["localhost:80"]],
    ["tcp://a:1,b:2,c:3", ["a:1", "b:2", "c:3"]],
    ["tcp://a:1,b:2,a:1", ["a:1", "b:2"]],
    ["tcp://a:1,a:2", ["a:1", "a:2"]],
    ["tcp://my-host.example.com.:80", ["my-host.example.com.:80"]],
    ["tcp://my_service:80", ["my_service:80"]],
    ["tcp://4.example.com:80", ["4.example.com:80"]],
    ["tcp://255.255.255.255:80", ["255.255.255.255:80"]],
    ["tcp://[::1]:80", ["[::1]:80"]],
    ["tcp://[::]:80", ["[::]:80"]],
    ["tcp://[2001:db8::8a2e:370:7334]:80", ["[2001:db8::8a2e:370:7334]:80"]],
    ["tcp://[1:2:3:4:5:6:7:8]:80", ["[1:2:3:4:5:6:7:8]:80"]],
    ["tcp://[1:2:3:4:5:6:7::]:80", ["[1:2:3:4:5:6:7::]:80"]],
    ["tcp://[::ffff:10.0.0.1]:80", ["[::ffff:10.0.0.1]:80"]],
    ["tcp://[fe80::1%eth0]:80", ["[fe80::1%eth0]:80"]],
    ["tcp://[::1]:80,127.0.0.1:80", ["[::1]:80", "127.0.0.1:80"]],
    ["unix:///run/echo.sock", ["unix:/run/echo.sock"]],
    ["unix:///a b/c,d", ["unix:/a b/c,d"]]
  ]

  const bad: ReadonlyArray<[uri: string, what: RegExp]> = [
    ["", /no scheme/],
    ["localhost:80", /no scheme/],
    ["//localhost:80", /no scheme/],
    ["tcp:localhost:80", /no scheme/],
    [" tcp://localhost:80", /no scheme/],
    ["tcp://", /empty/],
    ["tcp://a:1,", /empty/],
    ["tcp://,a:1", /empty/],
    ["tcp://a:1,,b:2", /empty/],
    ["tcp://a", /no port/],
    ["tcp://a:", /no port|is no port/],
    ["tcp://a:0", /"0" is no port/],
    ["tcp://a:65536", /"65536" is no port/],
    ["tcp://a:99999", /"99999" is no port/],
    ["tcp://a:100000000000", /is no port/],
    ["tcp://a:abc", /"abc" is no port/],
    ["tcp://a:-1", /"-1" is no port/],
    ["tcp://a:1.5", /"1.5" is no port/],
    ["tcp://a:0x50", /"0x50" is no port/],
    ["tcp://a: 80", /" 80" is no port/],
    ["tcp://a:80/path", /"80\/path" is no port/],
    ["tcp://:80", /no host/],
    ["tcp://a b:80", /no host name/],
    ["tcp:// a:80", /no host name/],
    ["tcp://user@a:80", /no host name/],
    ["tcp://-a:80", /no host name/],
    ["tcp://a:1, b:2", /no host name/],
    ["tcp://256.0.0.1:80", /no IPv4 address/],
    ["tcp://1.2.3:80", /no IPv4 address/],
    ["tcp://010.0.0.1:80", /no IPv4 address/],
    ["tcp://12345:80", /no IPv4 address/],
    ["tcp://::1:80", /not in brackets/],
    ["tcp://2001:db8::1", /not in brackets/],
    ["tcp://[::1", /no closing bracket/],
    ["tcp://[::1]", /no port/],
    ["tcp://[::1]80", /is no port/],
    ["tcp://[]:80", /no IPv6 address/],
    ["tcp://[localhost]:80", /no IPv6 address/],
    ["tcp://[127.0.0.1]:80", /no IPv6 address/],
    ["tcp://[:::1]:80", /no IPv6 address/],
    ["tcp://[1::2::3]:80", /no IPv6 address/],
    ["tcp://[1:2:3:4:5:6:7]:80", /no IPv6 address/],
    ["tcp://[1:2:3:4:5:6:7:8:9]:80", /no IPv6 address/],
    ["tcp://[12345::1]:80", /no IPv6 address/],
    ["tcp://[::ffff:256.0.0.1]:80", /no IPv6 address/],
    ["unix://run/echo.sock", /not absolute/],
    ["unix://", /not absolute/],
    ["unix:///", /not absolute/],
    ["unix:///a\0b", /not absolute/]
  ]

  it.effect("that is right names its endpoints, each once, in its order", () =>
    Effect.gen(function*() {
      for (const [uri, expected] of good) assert.deepStrictEqual(yield* keys(uri), expected, uri)
    }))

  it.effect("gives an endpoint the host without brackets, and its port", () =>
    Effect.gen(function*() {
      const [state] = yield* states("tcp://[::1]:8080,a:1")
      assert.deepStrictEqual(state, ServerSetState.Bound([Endpoint.tcp("::1", 8080), Endpoint.tcp("a", 1)]))
      assert.deepStrictEqual(yield* states("unix:///s"), [ServerSetState.Bound([Endpoint.unix("/s")])])
    }))

  it.effect("that is wrong fails with where and why, and what would be right", () =>
    Effect.gen(function*() {
      for (const [uri, what] of bad) {
        const error = yield* Effect.flip(resolve(uri))
        assert.strictEqual(error._tag, "InvalidUri", uri)
        assert.match((error as InvalidUri).what, what, uri)
        assert.strictEqual((error as InvalidUri).uri, uri)
        assert.include(error.message, "expected ")
      }
    }))

  it.effect("of an unknown scheme fails with the schemes that are known", () =>
    Effect.gen(function*() {
      for (const scheme of ["ftp", "constructor", "hasownproperty", "__proto__"]) {
        const error = yield* Effect.flip(resolve(`${scheme}://a:1`))
        if (scheme === "__proto__") assert.strictEqual(error._tag, "InvalidUri")
        else {
          assert.strictEqual(error._tag, "UnknownScheme", scheme)
          assert.deepStrictEqual(error._tag === "UnknownScheme" && error.known, schemes)
          assert.include(error.message, scheme)
        }
      }
    }))

  it.effect("fails the build of the layer, before anything connects", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Effect.scoped(Layer.build(ServerSet.fromUri("tcp://a:0"))))
      assert.strictEqual(error._tag, "InvalidUri")
    }))
})

describe("a resolver", () => {
  const fake = <const Scheme extends string>(scheme: Scheme, host: string) =>
    ServerSet.resolver(scheme, (uri, rest) =>
      rest === ""
        ? Effect.fail(new InvalidUri({ uri, what: "it is empty", expected: `${scheme}://name` }))
        : Effect.succeed(Stream.succeed(ServerSetState.Bound([Endpoint.tcp(`${host}.${rest}`, 1)]))))

  it.effect("makes its scheme known", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* keys("fake://svc").pipe(Effect.provide(fake("fake", "x"))), ["x.svc:1"])
      const error = yield* Effect.flip(resolve("fake://").pipe(Effect.provide(fake("fake", "x"))))
      assert.strictEqual(error._tag, "InvalidUri")
    }))

  it.effect("is found by its scheme in whatever case either is written", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* keys("FAKE://svc").pipe(Effect.provide(fake("fake", "x"))), ["x.svc:1"])
      assert.deepStrictEqual(yield* keys("fake://svc").pipe(Effect.provide(fake("Fake", "x"))), ["x.svc:1"])
    }))

  it.effect("is one of several that are merged, and all are named when none fits", () =>
    Effect.gen(function*() {
      const resolvers = Layer.mergeAll(fake("one", "x"), fake("two", "y"), fake("abc", "z"))
      assert.deepStrictEqual(yield* keys("one://svc").pipe(Effect.provide(resolvers)), ["x.svc:1"])
      assert.deepStrictEqual(yield* keys("two://svc").pipe(Effect.provide(resolvers)), ["y.svc:1"])
      assert.deepStrictEqual(yield* keys("tcp://a:1").pipe(Effect.provide(resolvers)), ["a:1"])
      const error = yield* Effect.flip(resolve("three://svc").pipe(Effect.provide(resolvers)))
      assert.deepStrictEqual(
        error._tag === "UnknownScheme" && error.known,
        [...schemes, "abc", "one", "two"].toSorted()
      )
    }))

  it.effect("takes the place of a built-in one, which is then named once", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* keys("tcp://svc").pipe(Effect.provide(fake("tcp", "mine"))), ["mine.svc:1"])
      const error = yield* Effect.flip(resolve("x://svc").pipe(Effect.provide(fake("tcp", "mine"))))
      assert.deepStrictEqual(error._tag === "UnknownScheme" && error.known, schemes)
    }))

  it.effect("takes the place of one that an optional package brings, which is not loaded", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* keys("zk://svc").pipe(Effect.provide(fake("zk", "mine"))), ["mine.svc:1"])
      assert.deepStrictEqual(yield* keys("ZK://svc").pipe(Effect.provide(fake("zk", "mine"))), ["mine.svc:1"])
    }))

  it.effect("is found by the layer of a URI that it is provided to", () =>
    Effect.gen(function*() {
      const set = ServerSet.fromUri("fake://svc").pipe(Layer.provide(fake("fake", "x")))
      const all = yield* Effect.flatMap(ServerSet, Stream.runCollect).pipe(Effect.provide(set))
      assert.deepStrictEqual(all, [ServerSetState.Bound([Endpoint.tcp("x.svc", 1)])])
    }))
})

describe("a server set", () => {
  it.effect("may be fixed, or any stream of states", () =>
    Effect.gen(function*() {
      const fixed = yield* Effect.flatMap(ServerSet, Stream.runCollect).pipe(
        Effect.provide(ServerSet.fixed([Endpoint.tcp("a", 1)]))
      )
      assert.deepStrictEqual(fixed, [ServerSetState.Bound([Endpoint.tcp("a", 1)])])
      const all = [ServerSetState.Pending, ServerSetState.Failed("x"), ServerSetState.Neg, ServerSetState.Bound([])]
      const given = yield* Effect.flatMap(ServerSet, Stream.runCollect).pipe(
        Effect.provide(ServerSet.fromStream(Stream.fromIterable(all)))
      )
      assert.deepStrictEqual(given, all)
    }))
})

describe("a watched server set", () => {
  const { Bound, Failed, Neg, Pending } = ServerSetState
  const member = (name: string, options?: EndpointOptions) => Endpoint.tcp(name, 1, options)

  /** The changes in short: `+` joined, `-` left, `~` changed. */
  const changes = (...states: ReadonlyArray<ServerSetState>) =>
    Effect.map(
      Stream.runCollect(ServerSet.watch(Stream.fromIterable(states))),
      (all) =>
        all.map(({ _tag, endpoint }) => ({ Joined: "+", Left: "-", Changed: "~" })[_tag] + endpoint.host).join(" ")
    )

  it.effect("tells who joins, then who leaves, from one state to the next", () =>
    Effect.gen(function*() {
      const [a, b, c, d] = [member("a"), member("b"), member("c"), member("d")]
      assert.strictEqual(yield* changes(Bound([b, a])), "+b +a")
      assert.strictEqual(yield* changes(Bound([a, b]), Bound([c, b, d])), "+a +b +c +d -a")
      assert.strictEqual(yield* changes(Bound([a]), Bound([]), Bound([a])), "+a -a +a")
      assert.strictEqual(yield* changes(Bound([a, b]), Neg, Bound([])), "+a +b -a -b")
      assert.strictEqual(yield* changes(Bound([a, b]), Bound([member("b"), member("a")])), "+a +b")
    }))

  it.effect("tells nothing by a state that says nothing of the members", () =>
    Effect.gen(function*() {
      const [a, b] = [member("a"), member("b")]
      assert.strictEqual(yield* changes(Pending, Failed("down"), Neg, Bound([])), "")
      assert.strictEqual(yield* changes(Bound([a]), Pending, Failed("down"), Bound([a, b])), "+a +b")
      assert.strictEqual(yield* changes(Neg, Failed("down"), Bound([a])), "+a")
    }))

  it.effect("tells what is said of a member now, and what was before", () =>
    Effect.gen(function*() {
      const said: ReadonlyArray<Endpoint> = [
        member("a"),
        member("a", { weight: 2 }),
        member("a", { weight: 2, shard: 0 }),
        member("a", { weight: 2, shard: 0, metadata: { zone: "x" } }),
        member("a", { weight: 2, shard: 0, metadata: { zone: "y" } }),
        member("a", { weight: 2, shard: 0, metadata: { rack: "y" } }),
        member("a")
      ]
      const all = yield* Stream.runCollect(ServerSet.watch(Stream.fromIterable(said.map((one) => Bound([one])))))
      const expected = said.map((endpoint, index): ServerSetChange =>
        index === 0 ? { _tag: "Joined", endpoint } : { _tag: "Changed", endpoint, before: said[index - 1]! }
      )
      assert.deepStrictEqual(all, expected)
      const left = yield* Stream.runCollect(ServerSet.watch(Stream.make(Bound([said[1]!]), Neg)))
      assert.deepStrictEqual(left.at(-1), { _tag: "Left", endpoint: said[1]! })
    }))

  it.effect("takes the last of two entries for one endpoint, as balancers do", () =>
    Effect.gen(function*() {
      const states = [Bound([member("a"), member("a", { weight: 2 })]), Bound([member("a", { weight: 2 })])]
      assert.deepStrictEqual(yield* Stream.runCollect(ServerSet.watch(Stream.fromIterable(states))), [
        { _tag: "Joined", endpoint: member("a", { weight: 2 }) }
      ])
    }))

  it.effect("may be that of a URI, and fails as it does", () =>
    Effect.gen(function*() {
      const all = yield* Stream.runCollect(ServerSet.watch(ServerSet.states("tcp://a:1,b:1")))
      assert.deepStrictEqual(all.map(({ _tag, endpoint }) => [_tag, endpoint.host]), [["Joined", "a"], ["Joined", "b"]])
      const error = yield* Effect.flip(Stream.runDrain(ServerSet.watch(ServerSet.states("tcp://a"))))
      assert.strictEqual(error._tag, "InvalidUri")
    }))
})

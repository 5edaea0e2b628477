/** What the docs show of balancers and failures is what the code does: drawings, names of metrics, figures. */
import { assert, describe as group, it } from "@effect/vitest"
import {
  Aperture,
  ConcurrencyLimit,
  describe,
  type DescribedStage,
  DeterministicAperture,
  Endpoint,
  type InvalidOption,
  PeakEwma,
  PendingLimit,
  RetryBudget,
  type ServerSet,
  ServerSetState,
  Stabilizer,
  type Stack,
  Stacks
} from "@scales-rpc/core"
import { BalancedHttpClient, Fetch, FetchUnsupported, Http, invalidPart, InvalidRequest } from "@scales-rpc/http"
import { Mux } from "@scales-rpc/mux"
import { Protocols, Thrift } from "@scales-rpc/thrift"
import { ThriftMux } from "@scales-rpc/thriftmux"
import { ZooKeeper } from "@scales-rpc/zookeeper"
import { FakeZooKeeper } from "@scales-rpc/zookeeper/testing"
import { Duration, Effect, Layer, Queue, Stream } from "effect"
import { TestClock } from "effect/testing"
import Int64 from "node-int64"
import { Message } from "../gen/echo_types.js"
import { Echo } from "../src/echo.ts"
import { textOf } from "./fences.ts"
import { pathOf, run } from "./program.ts"

/** The rows of every table of a page, as cells. */
const rowsOf = (document: string): ReadonlyArray<ReadonlyArray<string>> =>
  textOf(document).split("\n").filter((line) => line.startsWith("| ")).map((line) =>
    line.replace(/^\||\|$/g, "").split(" | ").map((cell) => cell.trim())
  )

/** The options in force of the stage of a role, as values. */
const optionsOf = (stages: ReadonlyArray<DescribedStage>, role: string): any =>
  Object.fromEntries(
    Object.entries(stages.find((stage) => stage.role === role)!.options).map(([name, { value }]) => [name, value])
  )

/** `5000 ms` as the docs write it. */
const inSeconds = (duration: string): string => `${Number.parseFloat(duration) / 1000} s`

it.live("docs/balancers.md shows what spread.ts draws", () =>
  Effect.gen(function*() {
    const { code, stderr, stdout } = yield* run(pathOf("src/spread.ts"))
    assert.strictEqual(stderr, "")
    assert.strictEqual(code, 0)
    const shown = Array.from(textOf("docs/balancers.md").matchAll(/^```text\n(.*?)\n```$/gms), ([, text]) => text)
    assert.strictEqual(shown.join("\n\n\n"), stdout.trimEnd())
  }), 60_000)

/** A client with every stage there is, as often as there are apertures. */
const stages = Effect.gen(function*() {
  const balancers = [Aperture.layer(Mux), DeterministicAperture.layer(Mux, { instance: 0, instances: 1 })]
  for (const balancer of balancers) {
    yield* Layer.build(ThriftMux.layer(Echo, {
      uri: "tcp://127.0.0.1:1",
      hedge: {},
      balancer,
      above: ConcurrencyLimit.layer(Mux, { maxConcurrent: 1 }),
      below: PendingLimit.layer(Mux, { maxPending: 1 })
    }))
  }
  return (yield* Stacks).list().map((stack) => describe(stack).stages)
}).pipe(Effect.provide(Stacks.layer))

it.effect("docs/balancers.md says the defaults of each balancer", () =>
  Effect.gen(function*() {
    const inForce = (balancer: Layer.Layer<"Mux/Balanced", InvalidOption, "Mux/Endpoints" | ServerSet | Stack>) =>
      Effect.gen(function*() {
        yield* Layer.build(ThriftMux.layer(Echo, { uri: "tcp://127.0.0.1:1", balancer }))
        const [stack] = (yield* Stacks).list()
        return optionsOf(describe(stack!).stages, "balancer")
      }).pipe(Effect.provide(Layer.fresh(Stacks.layer)), Effect.scoped)
    const aperture = yield* inForce(Aperture.layer(Mux))
    const ewma = yield* inForce(PeakEwma.layer(Mux))
    const part = yield* inForce(DeterministicAperture.layer(Mux, { instance: 0, instances: 1 }))
    const { max, min } = aperture.jitter
    const shown = rowsOf("docs/balancers.md").filter(([, option]) => /^`(\w+)`(, `\w+`)?$/.test(option!))
    assert.deepStrictEqual(shown.map(([, option, standard]) => `${option} ${standard}`), [
      `\`whenEmpty\` \`"${aperture.whenEmpty}"\``,
      `\`minSize\` ${aperture.minSize}`,
      `\`maxSize\` ${aperture.maxSize}`,
      `\`minLoad\`, \`maxLoad\` ${aperture.minLoad}, ${aperture.maxLoad}`,
      `\`window\` ${inSeconds(aperture.window)}`,
      `\`jitter\` ${inSeconds(min)} to ${inSeconds(max)}`,
      `\`idleTime\` ${inSeconds(aperture.idleTime)}`,
      `\`decayTime\` ${inSeconds(ewma.decayTime)}`,
      "`instance`, `instances` must be given",
      `\`minAperture\` ${part.minAperture}`,
      `\`idleTime\` ${inSeconds(part.idleTime)}`
    ])
  }))

it.effect("docs/client.md names the role of every stage", () =>
  Effect.gen(function*() {
    const [nodes] = yield* stages
    const page = textOf("docs/client.md")
    assert.deepStrictEqual(nodes!.filter(({ role }) => !page.includes(`\`${role}\``)), [])
    assert.isAbove(nodes!.length, 10)
  }))

group("docs/failures.md", () => {
  it.effect("says how much may be sent again", () =>
    Effect.gen(function*() {
      const [nodes] = yield* stages
      const { effort, share } = optionsOf(nodes!, "requeue")
      assert.include(textOf("docs/failures.md"), `${effort} attempts in all`)
      const shown = rowsOf("docs/failures.md").filter(([client]) =>
        /^(new$|\d+ (replies|calls) a second)/.test(client!)
      )
      const stock = (repliesASecond: number) => {
        const budget = new RetryBudget.RetryBudget(() => 0)
        for (let i = 0; i < 10 * repliesASecond; i++) budget.deposit()
        return budget.balance
      }
      for (const [index, balance] of [stock(0), stock(100), stock(1000), stock(0)].entries()) {
        const [, inStock, ofOne] = shown[index]!
        assert.strictEqual(/\d+(?=,|$)/.exec(inStock!)![0], String(balance))
        assert.strictEqual(ofOne, String(Math.ceil(share * balance)))
      }
      assert.lengthOf(shown, 4)
    }))
})

group("docs/thrift.md", () => {
  const build = Effect.gen(function*() {
    yield* Layer.build(Thrift.layer(Echo, { uri: "tcp://127.0.0.1:1" }))
    const [stack] = (yield* Stacks).list()
    return describe(stack!).stages
  }).pipe(Effect.provide(Layer.fresh(Stacks.layer)))

  const shown = (name: string) => rowsOf("docs/thrift.md").find(([first]) => first === `\`${name}\``)![1]

  it.effect("says the defaults of the pool and the transport", () =>
    Effect.gen(function*() {
      const nodes = yield* Effect.scoped(build)
      const inForce = (role: string) => optionsOf(nodes, role)
      const pool = inForce("pool")
      const transport = inForce("transport")
      assert.strictEqual(shown("low"), `${pool.low}`)
      assert.strictEqual(shown("high"), `${pool.high}`)
      assert.deepStrictEqual([pool.maxWaiters, shown("maxWaiters")], ["Infinity", "no bound"])
      assert.deepStrictEqual([pool.idleTime, shown("idleTime")], ["60000 ms", "1 minute"])
      assert.deepStrictEqual([pool.lifeTime, shown("lifeTime")], ["Infinity", "any age"])
      assert.strictEqual(shown("framing"), `\`"${transport.framing}"\``)
      assert.strictEqual(shown("protocol"), `\`Protocols.${transport.protocol}\``)
      assert.strictEqual(shown("connectTimeout"), inSeconds(transport.connectTimeout))
    }))

  it("says how long a call is in each protocol", () => {
    const message = new Message({ text: "hello world hello world", number: new Int64(12), items: [1, 2, 3, 4] })
    const passMessage = Echo.definition.methods.get("passMessage")!
    for (const [name, protocol] of Object.entries(Protocols)) {
      const writer = protocol.writer()
      passMessage.encodeCall(1, [message], writer)
      const row = rowsOf("docs/thrift.md").find(([, option]) => option!.startsWith(`\`Protocols.${name}\``))!
      assert.strictEqual(row[2], `${writer.take().length} bytes`, name)
    }
  })
})

group("docs/http.md", () => {
  const uri = "tcp://127.0.0.1:1"
  const clients: ReadonlyArray<readonly [string, Layer.Layer<never, unknown>]> = [
    ["Http", Http.layer("users", { uri })],
    ["BalancedHttpClient", BalancedHttpClient.layer({ uri })],
    ["Fetch", Fetch.layer({ uri })]
  ]
  const shown = (name: string) => rowsOf("docs/http.md").find(([first]) => first === `\`${name}\``)![1]

  for (const [name, layer] of clients) {
    it.effect(`says the defaults of ${name}`, () =>
      Effect.gen(function*() {
        yield* Layer.build(layer)
        const nodes = describe((yield* Stacks).list()[0]!).stages
        const inForce = (role: string) => optionsOf(nodes, role)
        const { connectTimeout, finagle, http2, maxHeaderBytes, tls } = inForce("transport")
        assert.strictEqual(shown("timeout"), inSeconds(inForce("dispatcher").timeout))
        assert.strictEqual(shown("connectTimeout"), inSeconds(connectTimeout))
        assert.strictEqual(shown("maxHeaderBytes"), `${maxHeaderBytes / 1024} KiB`)
        assert.deepStrictEqual([http2, shown("http2"), finagle, shown("finagle")], [false, "off", false, "off"])
        assert.deepStrictEqual([tls, shown("tls")], ["none", "none"])
      }).pipe(Effect.provide(Layer.fresh(Stacks.layer)), Effect.scoped))
  }

  it("names every header that is not sent", () => {
    const text = textOf("docs/http.md")
    const section = text.slice(text.indexOf("## What is not sent"), text.indexOf("## What travels"))
    const named = Array.from(section.matchAll(/`([a-z-]+)`/g), ([, header]) => header!)
    const refused = ["connection", "expect", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"]
    assert.includeMembers(named, refused)
    for (const name of refused) {
      const headers = [[name, "x"]] as const
      const wrong = invalidPart({ method: "GET", target: "/", headers, body: undefined, collect: 0 })
      assert.isTrue(wrong instanceof InvalidRequest && wrong.name === name, name)
    }
  })

  it.live("names what fetch does not have", () =>
    Effect.gen(function*() {
      const { fetch } = Fetch.make(Fetch.layer({ uri }))
      const asked: ReadonlyArray<readonly [string, RequestInit]> = [
        ["integrity", { integrity: "sha256-x" }],
        ["cache", { cache: "force-cache" }],
        ["mode", { mode: "no-cors" }],
        ["referrer", { referrer: "http://127.0.0.1:1/" }],
        ["dispatcher", { dispatcher: {} } as RequestInit]
      ]
      for (const [part, init] of asked) {
        assert.isDefined(shown(part), part)
        const error = yield* Effect.promise(() => fetch("/", init).catch((error: unknown) => error))
        assert.isTrue(error instanceof FetchUnsupported && error.part === part, part)
      }
    }))
})

group("docs/discovery.md", () => {
  /** Names of options, and what the page says are their defaults. */
  const shown = new Map(
    rowsOf("docs/discovery.md").map(([name, standard]) => [name!.replaceAll("`", ""), standard!] as const)
  )

  it.effect("draws what the stabilizer does", () =>
    Effect.gen(function*() {
      const line = (name: string) => new RegExp(`^    ${name} .*$`, "m").exec(textOf("docs/discovery.md"))![0]
      const starts = Array.from(line("time").matchAll(/\d+ s/g), ({ index }) => index)
      const cells = (name: string) => starts.map((start, i) => line(name).slice(start, starts[i + 1]).trim())
      const said = yield* Queue.unbounded<ServerSetState>()
      let shown = ""
      yield* (yield* Stabilizer.stabilize(Stream.fromQueue(said))).pipe(
        Stream.runForEach((state) =>
          Effect.sync(() => {
            const hosts = state._tag === "Bound" ? state.endpoints.map(({ host }) => host).toSorted() : [state._tag]
            shown = `[${hosts.join(" ")}]`
          })
        ),
        Effect.forkScoped
      )
      const seen: Array<string> = []
      for (const [i, time] of cells("time").entries()) {
        // A millisecond late each time: what is due then has happened.
        yield* TestClock.setTime(Number(time.split(" ")[0]) * 1000 + 2 * i)
        const hosts = /^\[(.*)\]$/.exec(cells("said")[i]!)?.[1]?.split(" ").filter((host) => host !== "")
        if (hosts !== undefined) {
          Queue.offerUnsafe(
            said,
            ServerSetState.Bound(hosts.map((host) => Endpoint.tcp(host, 1)))
          )
        }
        yield* TestClock.adjust(1)
        seen.push(shown)
      }
      assert.deepStrictEqual(seen, cells("shown"))
      assert.lengthOf(seen, 7)
    }))

  it("has every option of ZooKeeper.resolver, with its default", () => {
    const source = textOf("packages/zookeeper/src/ZooKeeper.ts")
    const options = Array.from(
      source.matchAll(/Default:? ([^.]+)\.\s+\*\/\s+readonly (\w+)\?:/g),
      ([, standard, name]) => {
        const [amount, unit] = standard!.split(" ")
        return [name!, unit === "seconds" ? `${amount} s` : standard!] as const
      }
    )
    assert.includeMembers(options.map(([name]) => name), ["sessionTimeout", "removals", "acl", "auth"])
    const ofTime = options.filter(([, standard]) => /^\d/.test(standard))
    assert.deepStrictEqual(ofTime.map(([name]) => [name, shown.get(name)]), ofTime.map((each) => [...each]))
    assert.deepStrictEqual(options.filter(([name]) => !shown.has(name)), [])
  })

  it.effect("says for how long members are shown that have left", () =>
    Effect.gen(function*() {
      const zookeeper = yield* FakeZooKeeper
      const member = (port: number) =>
        JSON.stringify({ serviceEndpoint: { host: "a", port }, additionalEndpoints: {}, status: "ALIVE" })
      for (const port of [1, 2]) zookeeper.put(`/echo/member_${port}`, member(port))
      let keys: ReadonlyArray<string> = []
      yield* ZooKeeper.serverSet("zk://zk/echo").pipe(
        Stream.runForEach((state) =>
          Effect.sync(() => {
            keys = state._tag === "Bound" ? state.endpoints.map(({ key }) => key) : []
          })
        ),
        Effect.forkScoped
      )
      /** How long it takes until they are these, a step of the clock more at the most. */
      const step = 100
      const until = (...expected: ReadonlyArray<string>) =>
        Effect.gen(function*() {
          let waited = 0
          for (; keys.join() !== expected.join() && waited < 600_000; waited += step) yield* TestClock.adjust(step)
          return waited
        })
      yield* until("a:1", "a:2")
      const millisOf = (name: string) => {
        const [amount, unit] = shown.get(name)!.split(" ")
        return Duration.toMillis(unit === "s" ? Duration.seconds(Number(amount)) : Duration.minutes(Number(amount)))
      }
      zookeeper.remove("/echo/member_1")
      assert.closeTo(yield* until("a:2"), millisOf("removals"), 2 * step)
      zookeeper.remove("/echo/member_2")
      assert.closeTo(yield* until(), millisOf("empty"), 2 * step)
    }).pipe(Effect.provide(FakeZooKeeper.layer())))
})

it("docs/errors.md says the code of every error of ZooKeeper", () => {
  const source = textOf("packages/zookeeper/src/errors.ts")
  const errors = Array.from(
    source.matchAll(/\((-[-\d, ]+)\)\. \*\/\nexport class (\w+) /g),
    ([, code, tag]) => `${tag} ${code}`
  )
  assert.isAbove(errors.length, 10)
  const rows = rowsOf("docs/errors.md").filter(([, code]) => /^-\d/.test(code!))
  assert.deepStrictEqual(rows.map(([tag, code]) => `${tag!.replaceAll("`", "")} ${code}`).toSorted(), errors.toSorted())
})

/** `dns://` and `srv://`, against a DNS server of the tests' own. The clock is the test's; seeds make the jitter repeat. */
import { assert, describe, it } from "@effect/vitest"
import { type DnsOptions, DnsSettings, Endpoint, resolve, ServerSetState, Stack } from "@scales-rpc/core"
import { Seed } from "@scales-rpc/core/testing"
import { Clock, Effect, Fiber, Layer, Stream } from "effect"
import { Resolver, type SrvRecord } from "node:dns"
import { hostname } from "node:os"
import { familiesOf, Name, settings } from "../src/internal/dnsNames.ts"
import { byPriority, membersOf } from "../src/internal/srvMembers.ts"
import { DnsServer } from "./DnsServer.ts"
import { seen } from "./seen.ts"
import { pass, turns, until, watching } from "./watching.ts"

const using = (options: DnsOptions) => Layer.mergeAll(Layer.succeed(DnsSettings, options), Seed.layer(7))

/** A server, a zone, and what watches a URI through them. */
const world = (options: DnsOptions = {}) =>
  Effect.map(DnsServer.make, (server) => {
    const layer = using({ servers: [server.address], families: "ipv4", ...options })
    /** How often something was asked for. */
    const count = (question: string) => server.asked.filter((one) => one === question).length
    /** How long, in steps of 50 ms, until something is asked for again. */
    const nextAfter = (question: string) =>
      Effect.gen(function*() {
        yield* turns()
        const before = count(question)
        let millis = 0
        while (count(question) === before) {
          yield* pass(50, 50)
          millis += 50
          assert.isBelow(millis, 1_000_000, question)
        }
        yield* turns()
        return millis
      })
    return {
      ...server,
      zone: server.zone,
      count,
      nextAfter,
      watch: (uri: string) => Effect.provide(watching(uri), layer)
    }
  })

const invalid = (uri: string, options: DnsOptions = {}) =>
  Effect.flip(resolve(uri)).pipe(Effect.provide(using(options)))

describe("a dns:// URI", () => {
  it.effect("that is wrong fails with why, and what would be right", () =>
    Effect.gen(function*() {
      const bad: ReadonlyArray<readonly [uri: string, what: RegExp]> = [
        ["dns://", /empty/],
        ["dns://name", /no port/],
        ["dns://name:0", /is no port/],
        ["dns://name:80/path", /is no port/],
        ["dns://a:1,b:2", /more than one/],
        ["dns://::1:80", /brackets/],
        ["dns://a b:80", /no host name/],
        ["srv://", /no service/],
        ["srv://_echo._tcp.test:80", /has a port/],
        ["srv://_echo._tcp.test/x", /no host name/],
        ["srv://_echo tcp", /no host name/]
      ]
      for (const [uri, what] of bad) {
        const error = yield* invalid(uri)
        assert.strictEqual(error._tag, "InvalidUri", uri)
        assert.match(error.message, what, uri)
        assert.match(error.message, uri.startsWith("dns") ? /expected dns:/ : /expected srv:/)
      }
    }))

  it.effect("fails for settings that cannot be", () =>
    Effect.gen(function*() {
      const bad: ReadonlyArray<readonly [options: DnsOptions, option: string]> = [
        [{ servers: [] }, "dns.servers"],
        [{ servers: ["ns.example.com"] }, "dns.servers"],
        [{ servers: ["127.0.0.1:99999"] }, "dns.servers"],
        [{ families: "ipv5" as "ipv4" }, "dns.families"],
        [{ families: "toString" as "ipv4" }, "dns.families"],
        [{ interval: "999 millis" }, "dns.interval"],
        [{ interval: Infinity }, "dns.interval"]
      ]
      for (const [options, option] of bad) {
        for (const uri of ["dns://name:80", "srv://_echo._tcp.test"]) {
          const error = yield* invalid(uri, options)
          assert.strictEqual(error._tag === "InvalidOption" ? error.option : error._tag, option)
        }
      }
      for (const servers of [["127.0.0.1"], ["127.0.0.1:5353", "::1", "[::1]:53"]]) {
        yield* Effect.provide(resolve("dns://name:80"), using({ servers }))
      }
    }))

  it.effect("with an address names it, and asks nobody", () =>
    Effect.gen(function*() {
      for (const [uri, host] of [["dns://127.0.0.1:80", "127.0.0.1"], ["dns://[::1]:80", "::1"]] as const) {
        const states = yield* Effect.flatMap(resolve(uri), Stream.runCollect)
        assert.deepStrictEqual(states, [ServerSetState.Bound([Endpoint.tcp(host, 80)])])
      }
    }))
})

describe("a server set from dns://", () => {
  it.effect("has an endpoint for each A and AAAA record, with the name they are of", () =>
    Effect.gen(function*() {
      const { watch, zone } = yield* world({ families: "both" })
      zone.set("echo.test", { A: ["127.0.0.1", "127.0.0.2", "127.0.0.1"], AAAA: ["fd00::a"] })
      const seen = yield* watch("dns://echo.test:80")
      yield* until(() => seen.states.length > 0, seen.all)
      const metadata = { name: "echo.test" }
      const state = seen.last()!
      assert.deepStrictEqual(state._tag === "Bound" && state.endpoints.toSorted((a, b) => a.key < b.key ? -1 : 1), [
        Endpoint.tcp("127.0.0.1", 80, { metadata }),
        Endpoint.tcp("127.0.0.2", 80, { metadata }),
        Endpoint.tcp("fd00::a", 80, { metadata })
      ])
    }))

  it.effect("asks only for addresses of the families it is told", () =>
    Effect.gen(function*() {
      for (const [families, expected] of [["ipv4", "127.0.0.1:80"], ["ipv6", "[fd00::a]:80"]] as const) {
        const { asked, watch, zone } = yield* world({ families })
        zone.set("echo.test", { A: ["127.0.0.1"], AAAA: ["fd00::a"] })
        yield* (yield* watch("dns://echo.test:80")).becomes(expected)
        assert.deepStrictEqual(asked, [`echo.test ${families === "ipv4" ? "A" : "AAAA"}`])
      }
    }))

  it("asks by default for the families that the machine has an address of", () => {
    const of = (...addresses: ReadonlyArray<string>) =>
      familiesOf({
        any: addresses.map((address) => ({
          address,
          family: address.includes(":") ? "IPv6" : "IPv4",
          internal: address === "127.0.0.1" || address === "::1",
          netmask: "",
          mac: "",
          cidr: null,
          scopeid: 0
        }))
      })
    assert.deepStrictEqual(of("127.0.0.1", "::1", "10.0.0.1", "fe80::1"), [4])
    assert.deepStrictEqual(of("127.0.0.1", "::1", "169.254.0.1", "fd00::1"), [6])
    assert.deepStrictEqual(of("10.0.0.1", "fd00::1"), [4, 6])
    assert.deepStrictEqual(of("127.0.0.1", "::1"), [4, 6])
    assert.deepStrictEqual(of(), [4, 6])
  })

  it.effect("asks again when the shortest TTL has passed, up to a tenth later", () =>
    Effect.gen(function*() {
      const { nextAfter, watch, zone } = yield* world({ families: "both" })
      zone.set("echo.test", { A: ["127.0.0.1"], AAAA: ["fd00::a"], ttl: 20 })
      yield* (yield* watch("dns://echo.test:80")).becomes("127.0.0.1:80 [fd00::a]:80")
      const waits = []
      for (let time = 0; time < 5; time++) waits.push(yield* nextAfter("echo.test A"))
      for (const wait of waits) assert.isTrue(wait >= 20_000 && wait <= 22_050, waits.join(" "))
      assert.isAbove(new Set(waits).size, 1)
    }))

  it.effect("takes a TTL of 0 for a second, and a long one for 5 minutes", () =>
    Effect.gen(function*() {
      for (const [ttl, millis] of [[0, 1000], [1, 1000], [604_800, 300_000], [0x7fff_ffff, 300_000]] as const) {
        const { nextAfter, watch, zone } = yield* world()
        zone.set("echo.test", { A: ["127.0.0.1"], ttl })
        const seen = yield* watch("dns://echo.test:80")
        yield* until(() => seen.states.length > 0, seen.all, 0)
        const wait = yield* nextAfter("echo.test A")
        assert.isTrue(wait >= millis && wait <= millis * 1.1 + 50, `${ttl}: ${wait}`)
      }
    }))

  it.effect("asks again after the interval for a name that is not there, or has no addresses", () =>
    Effect.gen(function*() {
      for (const [records, state] of [[undefined, "Neg"], [{}, ""]] as const) {
        const { nextAfter, watch, zone } = yield* world({ interval: "4 seconds", families: "both" })
        if (records !== undefined) zone.set("echo.test", records)
        const seen = yield* watch("dns://echo.test:80")
        yield* until(() => seen.states.length > 0, seen.all, 0)
        assert.deepStrictEqual(seen.all(), [state])
        const wait = yield* nextAfter("echo.test A")
        assert.isTrue(wait >= 4000 && wait <= 4450, `${wait}`)
      }
    }))

  it.effect("backs off while DNS fails, and asks at once at the pace of the TTL again after that", () =>
    Effect.gen(function*() {
      const { nextAfter, watch, zone } = yield* world()
      zone.set("echo.test", { rcode: 2 })
      const seen = yield* watch("dns://echo.test:80")
      yield* until(() => seen.states.length > 0, seen.all, 0)
      for (const bound of [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]) {
        const wait = yield* nextAfter("echo.test A")
        assert.isTrue(wait >= bound / 2 && wait <= bound + 50, `${bound}: ${wait}`)
      }
      zone.set("echo.test", { A: ["127.0.0.1"], ttl: 5 })
      yield* seen.becomes("127.0.0.1:80")
      const wait = yield* nextAfter("echo.test A")
      assert.isTrue(wait >= 4500 && wait <= 5550, `${wait}`)
      assert.deepStrictEqual(seen.all(), ["Failed", "127.0.0.1:80"])
      assert.lengthOf(seen.warnings, 1)
      assert.match(seen.warnings[0]!, /cannot resolve "dns:\/\/echo.test:80": DNS says ESERVFAIL of echo.test/)
    }))

  it.effect("of a client shows how often DNS was asked and did not answer, and what was wrong among its faults", () =>
    Effect.gen(function*() {
      const { watch, zone } = yield* world()
      zone.set("echo.test", { rcode: 2 })
      const watched = yield* watch("dns://echo.test:80")
      yield* watched.becomes("Failed")
      zone.set("echo.test", { A: ["127.0.0.1"], ttl: 5 })
      yield* watched.becomes("127.0.0.1:80")
      // That there is no such name is an answer.
      zone.delete("echo.test")
      yield* watched.becomes("Neg")
      const shown = yield* seen("scales.dns.")
      assert.isAtLeast(shown["scales.dns.lookups"]!, 3)
      assert.isAtLeast(shown["scales.dns.failures"]!, 1)
      assert.strictEqual(shown["scales.dns.latency_ms"]!, shown["scales.dns.lookups"]! - shown["scales.dns.failures"]!)
      const { faults } = yield* Stack
      assert.deepStrictEqual(faults.list.map(({ cause, what }) => [what, cause]), [[
        "server set cannot be read",
        `cannot resolve "dns://echo.test:80": DNS says ESERVFAIL of echo.test`
      ]])
      yield* watched.close
      assert.deepStrictEqual(yield* seen("scales.dns."), {})
    }).pipe(Effect.provide(Stack.layer("text"))))

  it.effect("keeps the addresses of a family that fails while the other is answered", () =>
    Effect.gen(function*() {
      const { watch, zone } = yield* world({ families: "both" })
      zone.set("echo.test", { A: ["127.0.0.1"], AAAA: ["fd00::a"], ttl: 5 })
      const seen = yield* watch("dns://echo.test:80")
      yield* seen.becomes("127.0.0.1:80 [fd00::a]:80")
      zone.set("echo.test", { A: ["127.0.0.2"], ttl: 5, rcode: { AAAA: 2 } })
      yield* seen.becomes("127.0.0.2:80 [fd00::a]:80")
      zone.set("echo.test", { A: ["127.0.0.2"], ttl: 5 })
      yield* seen.becomes("127.0.0.2:80")
      zone.set("echo.test", { A: ["127.0.0.3"], ttl: 5, rcode: { AAAA: 2 } })
      yield* seen.becomes("127.0.0.3:80")
      assert.deepStrictEqual(seen.warnings, [])
      // Whether there is any other address is not known: no empty set.
      zone.set("echo.test", { rcode: { AAAA: 2 } })
      yield* seen.warned(1)
      assert.strictEqual(seen.all().at(-1), "127.0.0.3:80")
    }))

  it.effect("fails when DNS is silent for 10 seconds, and goes on asking", () =>
    Effect.gen(function*() {
      const { watch, zone } = yield* world()
      zone.set("echo.test", { silent: true })
      const seen = yield* watch("dns://echo.test:80")
      yield* pass(9950, 50)
      assert.deepStrictEqual(seen.all(), [])
      yield* pass(100, 50)
      assert.deepStrictEqual(seen.all(), ["Failed"])
      assert.match(seen.warnings[0]!, /no answer within 10000 ms of DNS for echo.test/)
      zone.set("echo.test", { A: ["127.0.0.1"] })
      yield* seen.becomes("127.0.0.1:80")
    }))

  it.effect("has all addresses of an answer that is too long for UDP", () =>
    Effect.gen(function*() {
      const { watch, zone } = yield* world()
      zone.set("echo.test", { A: Array.from({ length: 1000 }, (_, at) => `10.0.${at >> 8}.${at & 255}`) })
      const seen = yield* watch("dns://echo.test:80")
      yield* until(() => seen.states.length > 0, seen.all, 0)
      const state = seen.last()!
      assert.lengthOf(state._tag === "Bound" ? state.endpoints : [], 1000)
    }))

  it.effect("never asks DNS for localhost", () =>
    Effect.gen(function*() {
      const { asked, watch } = yield* world()
      for (const name of ["localhost", "LOCALHOST"]) {
        const seen = yield* watch(`dns://${name}:80`)
        // The system takes its time, of which the clock of the test knows nothing.
        yield* until(() => seen.states.length > 0, seen.all, 0)
        assert.deepStrictEqual(seen.states, [
          ServerSetState.Bound([Endpoint.tcp("127.0.0.1", 80, { metadata: { name } })])
        ])
      }
      assert.deepStrictEqual(asked, [])
    }))

  /** A name, DNS of the test's, and a system that knows what the test says. */
  const named = (
    says: (family: number) => Promise<ReadonlyArray<{ address: string; family: number }>>,
    anywhere: boolean
  ) =>
    Effect.gen(function*() {
      const server = yield* DnsServer.make
      const checked = yield* Effect.provide(settings, using({ servers: [server.address], families: "ipv4" }))
      const resolver = new Resolver()
      resolver.setServers([server.address])
      const name = new Name("echo", { ...checked, lookup: (_name, family) => says(family) }, anywhere)
      return { zone: server.zone, resolve: name.resolve(resolver), lookup: checked.lookup }
    })
  const failing = (code: string) => Promise.reject(Object.assign(new Error(code), { code }))

  it.effect("asks the system for what DNS does not know, but not while a name that DNS knew fails", () =>
    Effect.gen(function*() {
      const asked: Array<number> = []
      const { lookup, resolve, zone } = yield* named((family) => {
        asked.push(family)
        return Promise.resolve([{ address: "127.0.0.2", family: 4 }, { address: "127.0.0.2", family: 4 }])
      }, true)
      const found = { addresses: ["127.0.0.2"], ttlMillis: undefined }
      for (const records of [undefined, {}, { rcode: 2 }]) {
        if (records !== undefined) zone.set("echo", records)
        assert.deepStrictEqual(yield* resolve, found)
      }
      assert.deepStrictEqual(asked, [4, 4, 4])
      zone.set("echo", { A: ["127.0.0.3"] })
      assert.deepStrictEqual((yield* resolve).addresses, ["127.0.0.3"])
      zone.set("echo", { rcode: 2 })
      assert.match(String(yield* Effect.flip(resolve)), /ESERVFAIL/)
      assert.lengthOf(asked, 3)
      // The system itself: an old way to write an address, which no DNS server answers.
      assert.deepStrictEqual(yield* Effect.promise(() => lookup("127.2", 4)), [{ address: "127.0.0.2", family: 4 }])
    }))

  it.effect("does not take a system that cannot tell for one that knows of no such name", () =>
    Effect.gen(function*() {
      let code = "ENOTFOUND"
      const { resolve, zone } = yield* named(() => failing(code), true)
      assert.match(String(yield* Effect.flip(resolve)), /queryA ENOTFOUND/)
      code = "EAI_AGAIN"
      assert.match(String(yield* Effect.flip(resolve)), /EAI_AGAIN/)
      zone.set("echo", { rcode: 2 })
      assert.match(String(yield* Effect.flip(resolve)), /ESERVFAIL/)
    }))

  it.effect("has one lookup of the system under way, however often it is given up", () =>
    Effect.gen(function*() {
      let lookups = 0
      let answer: (found: ReadonlyArray<{ address: string; family: number }>) => void = () => {}
      const { resolve } = yield* named(() => {
        lookups++
        return new Promise((resolve) => {
          answer = resolve
        })
      }, true)
      for (let time = 0; time < 3; time++) {
        const given = yield* Effect.forkChild(resolve, { startImmediately: true })
        yield* turns()
        yield* Fiber.interrupt(given)
      }
      const waiting = yield* Effect.forkChild(resolve, { startImmediately: true })
      yield* turns()
      assert.strictEqual(lookups, 1)
      answer([{ address: "127.0.0.2", family: 4 }])
      assert.deepStrictEqual((yield* Fiber.join(waiting)).addresses, ["127.0.0.2"])
    }))

  it.effect("asks no system where servers of one's own are set", () =>
    Effect.gen(function*() {
      const { resolve } = yield* named(() => Promise.resolve([{ address: "127.0.0.2", family: 4 }]), false)
      assert.match(String(yield* Effect.flip(resolve)), /ENOTFOUND/)
      const { watch } = yield* world()
      // What the system knows on every machine, except as localhost.
      const known = hostname().startsWith("localhost") ? "echo" : hostname()
      const seen = yield* watch(`dns://${known}:80`)
      yield* seen.becomes("Neg")
    }))
})

const record = (priority: number, weight: number, name: string, port = 80): SrvRecord =>
  ({
    type: "SRV",
    priority,
    weight,
    name,
    port
  }) as SrvRecord

describe("the members of a service", () => {
  /** `key weight` of each. */
  const weights = (
    records: ReadonlyArray<SrvRecord>,
    addresses: Readonly<Record<string, ReadonlyArray<string>>>
  ) => membersOf(records, (name) => addresses[name] ?? []).map(({ key, weight }) => `${key} ${weight}`)
  const one = { a: ["10.0.0.1"], b: ["10.0.0.2"], c: ["10.0.0.3"] }

  it("bear what their weights say, 1 on average", () => {
    assert.deepStrictEqual(weights([record(1, 10, "a"), record(1, 30, "b")], one), [
      "10.0.0.1:80 0.5",
      "10.0.0.2:80 1.5"
    ])
    assert.deepStrictEqual(
      weights([record(1, 33, "a"), record(1, 33, "b"), record(1, 33, "c")], one),
      ["10.0.0.1:80 1", "10.0.0.2:80 1", "10.0.0.3:80 1"]
    )
    assert.deepStrictEqual(weights([record(1, 65_535, "a")], one), ["10.0.0.1:80 1"])
  })

  it("share the weight of their target", () => {
    assert.deepStrictEqual(
      weights([record(1, 2, "a"), record(1, 1, "b")], { a: ["10.0.0.1", "10.0.1.1"], b: ["10.0.0.2"] }),
      ["10.0.0.1:80 1", "10.0.1.1:80 1", "10.0.0.2:80 1"]
    )
  })

  it("have the chance that RFC 2782 gives to a weight of 0", () => {
    // All of weight 0: equal. Else those of weight 0 have one chance in the sum and 1, together.
    assert.deepStrictEqual(weights([record(1, 0, "a"), record(1, 0, "b")], one), ["10.0.0.1:80 1", "10.0.0.2:80 1"])
    const shares = membersOf([record(1, 0, "a"), record(1, 0, "b"), record(1, 99, "c")], (name) => one[name as "a"])
      .map(({ weight }) => weight / 3)
    assert.closeTo(shares[0]!, 0.005, 1e-6)
    assert.closeTo(shares[1]!, 0.005, 1e-6)
    assert.closeTo(shares[2]!, 0.99, 1e-6)
  })

  it("are one where two records name one address and port, and two where the ports differ", () => {
    assert.deepStrictEqual(weights([record(1, 1, "a"), record(1, 2, "a"), record(1, 3, "b")], one), [
      "10.0.0.1:80 1",
      "10.0.0.2:80 1"
    ])
    assert.deepStrictEqual(weights([record(1, 1, "a", 80), record(1, 1, "a", 81)], one), [
      "10.0.0.1:80 1",
      "10.0.0.1:81 1"
    ])
  })

  it("leave out targets without an address", () => {
    assert.deepStrictEqual(weights([record(1, 5, "a"), record(1, 0, "gone"), record(1, 5, "b")], one), [
      "10.0.0.1:80 1",
      "10.0.0.2:80 1"
    ])
    assert.deepStrictEqual(weights([record(1, 5, "gone")], one), [])
  })

  it("are taken by priority, the lowest first, without records that name nothing", () => {
    const groups = byPriority([
      record(10, 1, "b"),
      record(0, 1, ""),
      record(2, 1, "a"),
      record(10, 2, "c"),
      record(2, 1, "c", 0)
    ])
    assert.deepStrictEqual(groups.map((group) => group.map(({ name }) => name)), [["a"], ["b", "c"]])
  })
})

describe("a server set from srv://", () => {
  const service = "_echo._tcp.test"
  const uri = `srv://${service}`

  it.effect("has the addresses of the targets, with ports, weights and targets' names", () =>
    Effect.gen(function*() {
      const { watch, zone } = yield* world()
      zone.set(service, { SRV: [[1, 1, 8080, "a.test"], [1, 3, 8081, "b.test"]] })
      zone.set("a.test", { A: ["127.0.0.1"] })
      zone.set("b.test", { A: ["127.0.0.2"] })
      const seen = yield* watch(uri)
      yield* until(() => seen.states.length > 0, seen.all, 0)
      assert.deepStrictEqual(seen.states, [
        ServerSetState.Bound([
          Endpoint.tcp("127.0.0.1", 8080, { weight: 0.5, metadata: { name: "a.test" } }),
          Endpoint.tcp("127.0.0.2", 8081, { weight: 1.5, metadata: { name: "b.test" } })
        ])
      ])
    }))

  it.effect("tells of new weights of the same endpoints", () =>
    Effect.gen(function*() {
      const { watch, zone } = yield* world()
      for (const host of [1, 2]) zone.set(`t${host}.test`, { A: [`127.0.0.${host}`] })
      const seen = yield* watch(uri)
      for (const [states, weight] of [[1, 1], [2, 3]] as const) {
        zone.set(service, { SRV: [[1, 1, 80, "t1.test"], [1, weight, 80, "t2.test"]] })
        yield* until(() => seen.states.length === states, seen.all)
      }
      const weights = seen.states.map((state) =>
        state._tag === "Bound" ? state.endpoints.map(({ weight }) => weight) : []
      )
      assert.deepStrictEqual(weights, [[1, 1], [0.5, 1.5]])
    }))

  it.effect("uses the lowest priority that has members, and comes back to it", () =>
    Effect.gen(function*() {
      const { asked, watch, zone } = yield* world()
      zone.set(service, { SRV: [[1, 1, 80, "a.test"], [1, 1, 80, "b.test"], [2, 1, 80, "c.test"]] })
      for (const [at, name] of ["a.test", "b.test", "c.test"].entries()) {
        zone.set(name, { A: [`127.0.0.${at + 1}`], ttl: 5 })
      }
      const seen = yield* watch(uri)
      yield* seen.becomes("127.0.0.1:80 127.0.0.2:80")
      assert.notInclude(asked, "c.test A")
      zone.delete("b.test")
      yield* seen.becomes("127.0.0.1:80")
      zone.delete("a.test")
      yield* seen.becomes("127.0.0.3:80")
      zone.set("b.test", { A: ["127.0.0.2"] })
      yield* seen.becomes("127.0.0.2:80")
      zone.clear()
      zone.set(service, { SRV: [[1, 1, 80, "a.test"], [2, 1, 80, "c.test"]] })
      yield* seen.becomes("")
      assert.deepStrictEqual(seen.warnings, [])
    }))

  it.effect("is none where DNS says that the service is not to be had there, and empty where it has no such records", () =>
    Effect.gen(function*() {
      const { watch, zone } = yield* world()
      zone.set(service, { SRV: [[0, 0, 0, "."]] })
      const seen = yield* watch(uri)
      yield* seen.becomes("Neg")
      zone.set(service, { A: ["127.0.0.1"] })
      yield* seen.becomes("")
      zone.delete(service)
      yield* seen.becomes("Neg")
      assert.deepStrictEqual(seen.warnings, [])
    }))

  it.effect("asks for the records at the interval, and for each target at its own TTL", () =>
    Effect.gen(function*() {
      const { count, watch, zone } = yield* world({ interval: "30 seconds" })
      zone.set(service, { SRV: [[1, 1, 80, "a.test"], [1, 1, 81, "a.test"], [1, 1, 80, "b.test"]] })
      zone.set("a.test", { A: ["127.0.0.1"], ttl: 4 })
      zone.set("b.test", { A: ["127.0.0.2"], ttl: 100 })
      const seen = yield* watch(uri)
      yield* seen.becomes("127.0.0.1:80 127.0.0.1:81 127.0.0.2:80")
      yield* pass(29_000)
      assert.strictEqual(count(`${service} SRV`), 1)
      assert.isTrue(count("a.test A") >= 7 && count("a.test A") <= 8, `${count("a.test A")}`)
      assert.strictEqual(count("b.test A"), 1)
      zone.set("a.test", { A: ["127.0.0.7"], ttl: 4 })
      yield* pass(5000)
      assert.strictEqual(seen.all().at(-1), "127.0.0.2:80 127.0.0.7:80 127.0.0.7:81")
      assert.strictEqual(count(`${service} SRV`), 2)
      yield* pass(60_000)
      assert.strictEqual(count("b.test A"), 1)
      yield* pass(20_000)
      assert.strictEqual(count("b.test A"), 2)
    }))

  it.effect("asks on when the wall clock was set back", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.Clock
      let ahead = 0
      const setBack = new Proxy(clock, {
        get: (target, key) => {
          if (key === "currentTimeMillisUnsafe") return () => target.currentTimeMillisUnsafe() + ahead
          if (key === "currentTimeMillis") return Effect.map(target.currentTimeMillis, (millis) => millis + ahead)
          const value: unknown = Reflect.get(target, key)
          return typeof value === "function" ? value.bind(target) : value
        }
      })
      yield* Effect.gen(function*() {
        const { count, watch, zone } = yield* world({ interval: "10 seconds" })
        zone.set(service, { SRV: [[1, 1, 80, "a.test"]] })
        zone.set("a.test", { A: ["127.0.0.1"], ttl: 300 })
        const seen = yield* watch(uri)
        yield* seen.becomes("127.0.0.1:80")
        ahead = -3_600_000
        yield* pass(60_000)
        assert.isAtLeast(count(`${service} SRV`), 6)
      }).pipe(Effect.provideService(Clock.Clock, setBack))
    }))

  it.effect("keeps the addresses of a target that cannot be resolved, and leaves out one that never could, with a warning each", () =>
    Effect.gen(function*() {
      const { watch, zone } = yield* world()
      zone.set(service, { SRV: [[1, 1, 80, "a.test"], [1, 1, 80, "b.test"]] })
      zone.set("a.test", { A: ["127.0.0.1"], ttl: 5 })
      zone.set("b.test", { rcode: 2 })
      const seen = yield* watch(uri)
      yield* seen.becomes("127.0.0.1:80")
      assert.lengthOf(seen.warnings, 1)
      assert.match(seen.warnings[0]!, /ESERVFAIL of b.test; it is left out/)
      zone.set("a.test", { rcode: 5 })
      yield* seen.warned(2)
      assert.match(seen.warnings[1]!, /EREFUSED of a.test; its last addresses stand/)
      yield* pass(120_000)
      assert.lengthOf(seen.warnings, 2)
      zone.set("b.test", { A: ["127.0.0.2"] })
      yield* seen.becomes("127.0.0.1:80 127.0.0.2:80")
      zone.set("a.test", { A: ["127.0.0.3"] })
      yield* seen.becomes("127.0.0.2:80 127.0.0.3:80")
      assert.deepStrictEqual(seen.all(), ["127.0.0.1:80", "127.0.0.1:80 127.0.0.2:80", "127.0.0.2:80 127.0.0.3:80"])
    }))

  it.effect("fails while no target can be resolved", () =>
    Effect.gen(function*() {
      const { watch, zone } = yield* world()
      zone.set(service, { SRV: [[1, 1, 80, "a.test"], [2, 1, 80, "b.test"]] })
      zone.set("a.test", { rcode: 2 })
      const seen = yield* watch(uri)
      yield* seen.becomes("Failed")
      zone.set("a.test", { A: ["127.0.0.1"] })
      yield* seen.becomes("127.0.0.1:80")
      assert.deepStrictEqual(seen.all(), ["Failed", "127.0.0.1:80"])
    }))

  it.effect("resolves hundreds of targets, each once", () =>
    Effect.gen(function*() {
      const { asked, watch, zone } = yield* world()
      const hosts = Array.from({ length: 300 }, (_, at) => at)
      zone.set(service, { SRV: hosts.map((host) => [1, 1, 80, `t${host}.test`]) })
      for (const host of hosts) zone.set(`t${host}.test`, { A: [`10.0.${host >> 8}.${host & 255}`], ttl: 3600 })
      const seen = yield* watch(uri)
      yield* until(() => seen.states.length > 0, seen.all, 0)
      yield* pass(60_000)
      assert.lengthOf(seen.states, 1)
      const state = seen.last()!
      assert.strictEqual(state._tag === "Bound" && state.endpoints.filter(({ weight }) => weight === 1).length, 300)
      assert.strictEqual(asked.filter((one) => one.endsWith(" A")).length, 300)
    }))
})

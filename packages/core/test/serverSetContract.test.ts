/** What every server set of core's own keeps to, whatever it reads. */
import { assert, describe, it } from "@effect/vitest"
import {
  type BuildError,
  DnsSettings,
  Endpoint,
  HeapBalancer,
  Requeue,
  ResolverFailed,
  Resurrector,
  ServerSet,
  type ServerSetState,
  SingletonPool,
  Stack
} from "@scales-rpc/core"
import { Scripted, Seed } from "@scales-rpc/core/testing"
import { Effect, Fiber, Layer, type Scope } from "effect"
import { TestClock } from "effect/testing"
import { existsSync, readdirSync, readlinkSync } from "node:fs"
import { mkdtemp, rename, rm, unlink, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import { DnsServer } from "./DnsServer.ts"
import { Text, TextClient } from "./support.ts"
import { pass, shown, turns, until, watching } from "./watching.ts"

/** Where a server set is read, in the hands of the test. Nothing is there at first. */
interface Source {
  readonly uri: string
  readonly settings: Layer.Layer<never>
  /** It lists 127.0.0.n:80 for each n. */
  readonly bind: (...hosts: ReadonlyArray<number>) => Effect.Effect<void>
  /** It is gone. */
  readonly remove: Effect.Effect<void>
  /** Reading it fails; `silent` if it can be so. */
  readonly fail: Effect.Effect<void>
  /** Whoever reads it now waits. */
  readonly silent: Effect.Effect<void>
}

const file: Effect.Effect<Source, never, Scope.Scope> = Effect.gen(function*() {
  const folder = yield* Effect.acquireRelease(
    Effect.promise(() => mkdtemp(join(tmpdir(), "server-set-"))),
    (folder) => Effect.promise(() => rm(folder, { recursive: true }))
  )
  const path = join(folder, "members")
  const put = (text: string) =>
    Effect.promise(async () => {
      await writeFile(`${path}.new`, text)
      await rename(`${path}.new`, path)
    })
  return {
    uri: pathToFileURL(path).href,
    settings: Layer.empty,
    bind: (...hosts) => put(hosts.map((host) => `127.0.0.${host}:80\n`).join("")),
    remove: Effect.promise(() => unlink(path)),
    fail: put("127.0.0.1:eighty\n"),
    // It rests for too short a time.
    silent: put("127.0.0.9:80\n")
  }
})

const dns: Effect.Effect<Source, never, Scope.Scope> = Effect.gen(function*() {
  const { address, zone } = yield* DnsServer.make
  return {
    uri: "dns://echo.test:80",
    settings: Layer.succeed(DnsSettings, { servers: [address], families: "ipv4" }),
    bind: (...hosts) => Effect.sync(() => void zone.set("echo.test", { A: hosts.map((host) => `127.0.0.${host}`) })),
    remove: Effect.sync(() => zone.clear()),
    fail: Effect.sync(() => void zone.set("echo.test", { rcode: 2 })),
    silent: Effect.sync(() => void zone.set("echo.test", { silent: true }))
  }
})

const srv: Effect.Effect<Source, never, Scope.Scope> = Effect.gen(function*() {
  const { address, zone } = yield* DnsServer.make
  const service = "_echo._tcp.test"
  return {
    uri: `srv://${service}`,
    settings: Layer.succeed(DnsSettings, { servers: [address], families: "ipv4" }),
    bind: (...hosts) =>
      Effect.sync(() => {
        for (const host of hosts) zone.set(`t${host}.test`, { A: [`127.0.0.${host}`] })
        zone.set(service, { SRV: hosts.map((host) => [1, 1, 80, `t${host}.test`]) })
      }),
    remove: Effect.sync(() => zone.clear()),
    fail: Effect.sync(() => void zone.set(service, { rcode: 2 })),
    silent: Effect.sync(() => void zone.set(service, { silent: true }))
  }
})

const key = (...hosts: ReadonlyArray<number>): string => hosts.map((host) => `127.0.0.${host}:80`).join(" ")

const descriptors = "/proc/self/fd"

/** The sockets that are open, where the system tells: Node does not show those that its DNS resolver asks with. */
const sockets = (): number =>
  !existsSync(descriptors) ? 0 : readdirSync(descriptors).filter((descriptor) => {
    try {
      return readlinkSync(join(descriptors, descriptor)).startsWith("socket:")
    } catch {
      // That of the reading itself.
      return false
    }
  }).length

/** What the process holds that a server set could have left: watches of directories, sockets, what is under way. */
const held = (): ReadonlyArray<string> =>
  process.getActiveResourcesInfo().filter((name) => !/Timeout|Immediate|Pipe|TTY|Process|MessagePort/.test(name))
    .concat(Array.from({ length: sockets() }, () => "socket")).toSorted()

/** What is held now and was not before. What is gone since may be what an earlier test had not quite closed. */
const added = (before: ReadonlyArray<string>): ReadonlyArray<string> => {
  const rest = [...before]
  return held().filter((name) => {
    const at = rest.indexOf(name)
    if (at >= 0) rest.splice(at, 1)
    return at < 0
  })
}

/** At once, but for a file that is being read: that cannot be cancelled. What is left to end by itself is left. */
const holdsOnly = (before: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    yield* turns(20)
    yield* until(() => !held().some((name) => /^(FSReq|CloseReq)/.test(name)), () => held().join(" "), 0)
    assert.deepStrictEqual(added(before), [])
  })

describe.each([["file", file], ["dns", dns], ["srv", srv]] as const)("a server set from %s://", (_scheme, make) => {
  /** Runs a test with a source, and the server set watched. */
  const watched = <E>(
    before: (source: Source) => Effect.Effect<void>,
    test: (
      source: Source,
      seen: Effect.Success<ReturnType<typeof watching>>
    ) => Effect.Effect<void, E, Scope.Scope>
  ): Effect.Effect<void, E | BuildError, Scope.Scope> =>
    Effect.gen(function*() {
      const source = yield* make
      yield* before(source)
      yield* Effect.flatMap(watching(source.uri), (seen) => test(source, seen)).pipe(Effect.provide(source.settings))
    })

  it.effect("has its endpoints at once, without time passing", () =>
    watched((source) => source.bind(1, 2), (_source, seen) =>
      Effect.gen(function*() {
        yield* until(() => seen.states.length > 0, seen.all, 0)
        assert.deepStrictEqual(seen.all(), [key(1, 2)])
        const state = seen.last()!
        if (state._tag !== "Bound") return assert.fail(state._tag)
        const [first] = state.endpoints
        assert.deepStrictEqual(first, Endpoint.tcp("127.0.0.1", 80, { metadata: first!.metadata }))
      })))

  it.effect("that is missing at first is none, and is waited for", () =>
    watched(() => Effect.void, (source, seen) =>
      Effect.gen(function*() {
        yield* seen.becomes("Neg")
        yield* pass(60_000)
        yield* source.bind(1)
        yield* seen.becomes(key(1))
        assert.deepStrictEqual(seen.all(), ["Neg", key(1)])
      })))

  it.effect("gives each change as one whole state", () =>
    watched((source) => source.bind(1, 2), (source, seen) =>
      Effect.gen(function*() {
        yield* seen.becomes(key(1, 2))
        yield* source.bind(1, 2, 3)
        yield* seen.becomes(key(1, 2, 3))
        yield* source.bind(3, 4)
        yield* seen.becomes(key(3, 4))
        assert.deepStrictEqual(seen.all(), [key(1, 2), key(1, 2, 3), key(3, 4)])
        assert.deepStrictEqual(seen.warnings, [])
      })))

  it.effect("says nothing when what it reads says the same in another order", () =>
    watched((source) => source.bind(1, 2), (source, seen) =>
      Effect.gen(function*() {
        yield* seen.becomes(key(1, 2))
        yield* source.bind(2, 1)
        yield* pass(60_000)
        yield* source.bind(2, 1, 3)
        yield* seen.becomes(key(1, 2, 3))
        assert.deepStrictEqual(seen.all(), [key(1, 2), key(1, 2, 3)])
      })))

  it.effect("is none when it is removed, and is followed when it is made again", () =>
    watched((source) => source.bind(1), (source, seen) =>
      Effect.gen(function*() {
        yield* seen.becomes(key(1))
        for (const host of [1, 2]) {
          yield* source.remove
          yield* seen.becomes("Neg")
          yield* source.bind(host)
          yield* seen.becomes(key(host))
        }
        assert.deepStrictEqual(seen.all(), [key(1), "Neg", key(1), "Neg", key(2)])
        assert.deepStrictEqual(seen.warnings, [])
      })))

  it.effect("that cannot be read at first says why, once, and goes on trying", () =>
    watched((source) => source.fail, (source, seen) =>
      Effect.gen(function*() {
        yield* seen.becomes("Failed")
        yield* pass(60_000)
        yield* source.bind(1)
        yield* seen.becomes(key(1))
        assert.deepStrictEqual(seen.all(), ["Failed", key(1)])
        const failed = seen.states[0]!
        if (failed._tag !== "Failed") return assert.fail(failed._tag)
        assert.instanceOf(failed.cause, ResolverFailed)
        assert.include((failed.cause as ResolverFailed).message, source.uri)
        const { message } = failed.cause as ResolverFailed
        assert.deepStrictEqual(seen.warnings, [`server set cannot be read; ${message}; nothing yet`])
      })))

  it.effect("keeps what it knew while it cannot be read, with one warning", () =>
    watched((source) => source.bind(1, 2), (source, seen) =>
      Effect.gen(function*() {
        yield* seen.becomes(key(1, 2))
        for (const failures of [1, 2]) {
          yield* source.fail
          yield* seen.warned(failures)
          yield* pass(300_000, 2000)
          assert.lengthOf(seen.warnings, failures)
          assert.include(seen.warnings.at(-1), source.uri)
          assert.include(seen.warnings.at(-1), "what was known stands")
          assert.deepStrictEqual(seen.all(), [key(1, 2), key(2), key(1, 2)].slice(0, 2 * failures - 1))
          // The same again is no news; that it can be read again shows in what it says next.
          yield* source.bind(1, 2)
          yield* pass(60_000)
          yield* source.bind(2)
          yield* seen.becomes(key(2))
          yield* source.bind(1, 2)
          yield* seen.becomes(key(1, 2))
        }
      })))

  it.effect("that is none stays so while it cannot be read", () =>
    watched(() => Effect.void, (source, seen) =>
      Effect.gen(function*() {
        yield* seen.becomes("Neg")
        yield* source.fail
        yield* seen.warned(1)
        yield* source.bind(1)
        yield* seen.becomes(key(1))
        assert.deepStrictEqual(seen.all(), ["Neg", key(1)])
      })))

  it.effect("is a stream that runs more than once, each run by itself", () =>
    watched((source) => source.bind(1), (source, seen) =>
      Effect.gen(function*() {
        const other = yield* watching(source.uri)
        yield* seen.becomes(key(1))
        yield* other.becomes(key(1))
        yield* seen.close
        yield* source.bind(2)
        yield* other.becomes(key(2))
        assert.deepStrictEqual(seen.all(), [key(1)])
      })))

  it.effect("leaves nothing when its scope closes, while it waits or while it reads", () =>
    Effect.gen(function*() {
      const source = yield* make
      yield* source.bind(1)
      yield* until(() => !held().some((name) => /^(FSReq|CloseReq)/.test(name)), () => held().join(" "), 0)
      const before = held()
      yield* Effect.gen(function*() {
        const waiting = yield* watching(source.uri)
        yield* waiting.becomes(key(1))
        yield* TestClock.adjust("10 seconds")
        yield* turns()
        yield* waiting.close
        yield* holdsOnly(before)
        yield* source.silent
        const reading = yield* watching(source.uri)
        yield* reading.close
        yield* holdsOnly(before)
        const later = yield* watching(source.uri)
        yield* turns(3)
        yield* later.close
        yield* holdsOnly(before)
        const told = [waiting, reading, later].map(({ states }) => states.length)
        yield* source.bind(1, 2)
        yield* TestClock.adjust("1 hour")
        yield* holdsOnly(before)
        assert.deepStrictEqual([waiting, reading, later].map(({ states }) => states.length), told)
      }).pipe(Effect.provide(source.settings))
    }))

  it.effect("has states that a consumer may be slow to take, and takes them whole", () =>
    watched((source) => source.bind(1), (source, seen) =>
      Effect.gen(function*() {
        yield* seen.becomes(key(1))
        // Changes faster than it is read: the last one counts.
        for (let host = 2; host < 10; host++) yield* source.bind(host)
        yield* seen.becomes(key(9))
        assert.isTrue(
          seen.states.every((state: ServerSetState) => state._tag === "Bound" && shown(state).length === 12)
        )
      })))

  it.effect("is what a client's calls go by, whatever becomes of where it is read", () =>
    Effect.gen(function*() {
      const source = yield* make
      yield* source.bind(1)
      const client = TextClient.layer().pipe(
        Layer.provide(Requeue.layer(Text)),
        Layer.provide(HeapBalancer.layer(Text)),
        Layer.provide(Resurrector.layer(Text)),
        Layer.provide(SingletonPool.layer(Text)),
        Layer.provide(Scripted.layer(Text, (_request, attempt) => Effect.succeed(attempt.endpoint.key))),
        Layer.provide(ServerSet.fromUri(source.uri).pipe(Layer.provide(source.settings))),
        Layer.provide(Stack.layer("contract")),
        Layer.provide(Seed.layer(1)),
        Layer.fresh
      )
      yield* Effect.gen(function*() {
        const { call } = yield* TextClient
        let answer = ""
        /** Calls again and again as time passes. */
        const answered = (expected: string) =>
          Effect.gen(function*() {
            while (answer !== expected) {
              answer = yield* Effect.catch(call(""), (error) => Effect.succeed(error._tag))
              yield* pass(500)
            }
          })
        const first = yield* Effect.forkChild(call(""), { startImmediately: true })
        yield* until(() => first.pollUnsafe() !== undefined, held, 0)
        assert.strictEqual(yield* Fiber.join(first), key(1))
        yield* source.fail
        for (let second = 0; second < 60; second++) {
          assert.strictEqual(yield* call(""), key(1))
          yield* pass(1000)
        }
        yield* source.bind(2)
        yield* answered(key(2))
        yield* source.remove
        yield* answered("NoEndpoints")
        yield* source.bind(3)
        yield* answered(key(3))
      }).pipe(Effect.provide(client))
    }))
})

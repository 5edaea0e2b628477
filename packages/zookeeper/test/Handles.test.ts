import { assert, it } from "@effect/vitest"
import { Clock, Effect, Redacted } from "effect"
import { TestClock } from "effect/testing"
import { Lines, LinesLive, session, standIn, turns } from "./standInAddon.ts"

/** Lets time pass, with all that is due in it. */
const pass = (seconds: number) =>
  Effect.gen(function*() {
    for (let step = 0; step < seconds * 4; step++) {
      yield* TestClock.adjust(250)
      yield* turns
    }
  })

const refused = (handle: { state: number }) => {
  handle.state = 0
}
const noName = (name: string) => Effect.fail(Object.assign(new Error(name), { code: "ENOTFOUND" }))

it.effect("what keeps it from connecting is logged once, and again after it was connected", () =>
  Effect.gen(function*() {
    const lines = yield* Lines
    let up = false
    const { addon, handles, last } = standIn((handle) => up ? undefined : refused(handle))
    const hosts = ["zk1", "zk2"].map((host) => ({ host, port: 1 }))
    const lookup = (host: string) => host === "zk1" ? noName(host) : Effect.succeed(["127.0.0.1"])
    const auth = [{ scheme: "digest", credentials: Redacted.make("me:secret") }]
    const made = yield* session({ addon, hosts, lookup, auth, connect: "zk1:1,zk2:1" })
    const told = [
      "WARN ZooKeeper cannot be reached {\"connect\":\"zk1:1,zk2:1\",\"cause\":\"zk1 cannot be resolved (ENOTFOUND)\"}",
      "WARN ZooKeeper cannot be reached {\"connect\":\"zk1:1,zk2:1\",\"cause\":\"the connection was refused\"}"
    ]
    yield* pass(20)
    assert.isAbove(handles.length, 3)
    assert.deepStrictEqual(lines.splice(0), told)
    // Each time it is known why.
    assert.match(String(made.status().cause), /refused|resolved/)
    up = true
    while (last().closed) yield* pass(0.25)
    last().connected()
    yield* pass(2)
    up = false
    last().lost()
    yield* pass(30)
    assert.deepStrictEqual(lines.splice(0), [
      "INFO ZooKeeper session {\"connect\":\"zk1:1,zk2:1\",\"session\":\"1\"}",
      "WARN ZooKeeper connection lost {\"connect\":\"zk1:1,zk2:1\",\"session\":\"1\"}",
      "WARN ZooKeeper cannot be reached {\"connect\":\"zk1:1,zk2:1\",\"cause\":\"no connection in time\"}",
      ...told
    ])
  }).pipe(Effect.provide(LinesLive)))

it.effect("a handle that says nothing is given up in its time, also when the wall clock is set back", () =>
  Effect.gen(function*() {
    const { addon, handles } = standIn()
    const clock = yield* Clock.Clock
    let back = 0
    const wrong = new Proxy(clock, {
      get: (target, name) => {
        if (name === "currentTimeMillisUnsafe") return () => target.currentTimeMillisUnsafe() - back
        const value: unknown = Reflect.get(target, name)
        return typeof value === "function" ? value.bind(target) as unknown : value
      }
    })
    const made = yield* Effect.provideService(session({ addon }), Clock.Clock, wrong)
    yield* pass(1)
    back = 3_600_000
    yield* pass(3.5)
    assert.lengthOf(handles, 1)
    yield* pass(1.5)
    assert.lengthOf(handles, 2)
    assert.match(String(made.status().cause), /no connection in time/)
  }).pipe(Effect.provide(LinesLive)))

it.effect("whatever throws once, the session is tried again, and its log and status say so", () =>
  Effect.gen(function*() {
    const lines = yield* Lines
    for (
      const [what, broken] of Object.entries(
        {
          "no memory": () => {
            throw new Error("no memory")
          },
          // What the addon could not make has no timeout.
          "cannot be made": () => false,
          "a wrong argument": (handle) => {
            handle.add_auth = () => {
              throw new Error("a wrong argument")
            }
          },
          // Read for the first time when it is asked whether the attempt has failed.
          "no state": (handle) => {
            Object.defineProperty(handle, "state", {
              get: () => {
                throw new Error("no state")
              },
              set: () => {}
            })
          }
        } satisfies Record<string, Parameters<typeof standIn>[0]>
      )
    ) {
      const { addon, handles, last } = standIn((handle) => handles.length === 1 ? broken(handle) : undefined)
      const made = yield* session({ addon, auth: [{ scheme: "digest", credentials: Redacted.make("me:secret") }] })
      yield* turns
      assert.include(String(made.status().cause), what)
      assert.lengthOf(lines, 1)
      assert.match(
        lines[0]!,
        new RegExp(`^ERROR ZooKeeper session has thrown, and goes on.*${what}.*"connect":"zk1:1"`)
      )
      yield* pass(1)
      assert.isAtLeast(handles.length, 2)
      // One that has begun keeps the process until it is closed.
      assert.strictEqual(handles[0]!.closed, what === "a wrong argument" || what === "no state")
      last().connected()
      yield* turns
      assert.strictEqual(made.status().state, "Connected")
      lines.length = 0
    }
  }).pipe(Effect.provide(LinesLive)))

it.effect("a lookup that throws is one that fails, and a handle that cannot be closed ends nothing", () =>
  Effect.gen(function*() {
    const lines = yield* Lines
    let lookups = 0
    const { addon, handles } = standIn((handle) => {
      refused(handle)
      handle.close = () => {
        throw new Error("not closed")
      }
    })
    const made = yield* session({
      addon,
      lookup: () => {
        if (++lookups === 1) throw new TypeError("not a host")
        return Effect.succeed(["127.0.0.1"])
      }
    })
    yield* turns
    assert.match(String(made.status().cause), /zk1 cannot be resolved \(TypeError\)/)
    yield* pass(5)
    assert.isAtLeast(handles.length, 2)
    assert.isTrue(lines.some((line) => line.startsWith("ERROR a ZooKeeper handle cannot be closed Error: not closed")))
  }).pipe(Effect.provide(LinesLive)))

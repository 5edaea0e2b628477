import { assert, describe, it } from "@effect/vitest"
import { Endpoint, type MemberStatus } from "@scales-rpc/core"
import { Effect, Exit, Scope } from "effect"
import { announce } from "../src/Announcer.ts"
import { decodeMember } from "../src/Members.ts"
import { FakeZooKeeper } from "../src/testing/index.ts"
import { ZooKeeper } from "../src/ZooKeeper.ts"
import { pass, path, seeded, settle, watch, zk } from "./support.ts"

/** What the directory holds: port and status of each member, in order of the ports. */
const held = (fake: FakeZooKeeper["Service"]): ReadonlyArray<string> =>
  fake.list(path).map((name) => {
    const { serviceEndpoint, status } = decodeMember(new TextEncoder().encode(fake.read(`${path}/${name}`)))
    return `${serviceEndpoint?.port} ${status}`
  }).toSorted()

/** One random history of three announcements over one session. */
const history = (seed: number) =>
  Effect.gen(function*() {
    const fake = yield* FakeZooKeeper
    const zookeeper = yield* ZooKeeper
    const session = yield* zookeeper.session("zk1")
    const random = seeded(seed)
    const below = (bound: number) => Math.floor(random() * bound)
    const log: Array<string> = []
    // Who keeps the session when the announcements go.
    yield* watch()
    const scopes = yield* Effect.forEach([0, 1, 2], () => Scope.make())
    const said: Array<MemberStatus> = ["ALIVE", "ALIVE", "ALIVE"]
    const announcements = yield* Effect.forEach(scopes, (scope, port) =>
      Scope.provide(
        announce(zookeeper, `zk://zk1${path}`, `zk1${path}`, Endpoint.tcp("h", port + 1)),
        scope
      ))
    const statuses = ["ALIVE", "STOPPING", "WARNING"] as const
    const steps: ReadonlyArray<[what: string, run: () => Effect.Effect<unknown, unknown> | void]> = [
      ["disconnect", () => fake.disconnect()],
      ["reconnect", () => fake.reconnect()],
      ["reconnect again", () => fake.reconnect()],
      ["expire", () => fake.expire()],
      ["delete", () => fake.list(path).slice(0, 1).forEach((name) => fake.remove(`${path}/${name}`))],
      ["delete path", () => fake.remove(path)],
      ["slow", () => fake.slow(below(3) * 20)],
      ["update", () => {
        const which = below(3)
        const status = statuses[below(3)]!
        said[which] = status
        return Effect.forkDetach(announcements[which]!.update({ status }), { startImmediately: true })
      }],
      ["fail create", () => fake.failNext("create", "ConnectionLoss", { applied: random() < 0.5 })],
      ["fail delete", () => fake.failNext("delete", "OperationTimeout", { applied: random() < 0.5 })],
      ["fail", () => fake.failNext((["children", "exists", "get"] as const)[below(3)]!, "ConnectionLoss")]
    ]
    for (let step = 0; step < 40; step++) {
      const [what, run] = steps[below(steps.length)]!
      log.push(what)
      yield* run() ?? Effect.void
      if (random() < 0.6) yield* pass(1 + below(3), below(700))
    }
    fake.slow(0)
    fake.reconnect()
    // The longest wait is a minute; each fault that is left may make it another.
    yield* pass(120, "20 seconds")
    const told = `seed ${seed}: ${log.join(", ")}`
    assert.deepStrictEqual(held(fake), said.map((status, port) => `${port + 1} ${status}`), told)
    assert.deepStrictEqual(
      announcements.map(({ state }) => state()._tag),
      ["Announced", "Announced", "Announced"],
      told
    )
    const names = announcements.map(({ state }) => (state() as { readonly name: string }).name)
    assert.deepStrictEqual(names.toSorted(), fake.list(path), told)
    // Those of the reader, for the directory and each of its members, are also those of the announcements. Where the directory was made while
    // it was looked for, its data is watched too.
    assert.isAtMost(session.watches(), 5, told)

    // However that goes, nothing is left once there is a connection.
    if (random() < 0.5) fake.disconnect()
    if (random() < 0.5) fake.failNext("delete", "ConnectionLoss", { applied: random() < 0.5 })
    for (const scope of scopes) yield* Effect.forkDetach(Scope.close(scope, Exit.void), { startImmediately: true })
    yield* pass(5, "1 second")
    fake.reconnect()
    yield* pass(5, "1 second")
    yield* settle
    assert.deepStrictEqual(held(fake), [], told)
    assert.isAtMost(session.watches(), 2, told)
  })

describe("announcements, whatever happens", () => {
  it.effect(
    "are there once each, say what they were last told to, and go when they are closed",
    () =>
      Effect.gen(function*() {
        for (let seed = 0; seed < 100; seed++) {
          yield* Effect.scoped(Effect.provide(history(seed), zk({ removals: 0, empty: 0 }, seed)))
        }
      }),
    60_000
  )
})

import { assert, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import dns from "node:dns"
import { syncBuiltinESMExports } from "node:module"
import { systemLookup } from "../src/internal/addresses.ts"
import { turns } from "./standInAddon.ts"

type Done = (error: Error | null, found?: ReadonlyArray<{ readonly address: string }>) => void

/** Names that the system was asked for, and what answers each. */
const asked = Effect.acquireRelease(
  Effect.sync(() => {
    const names: Array<string> = []
    const answers: Array<Done> = []
    const { lookup } = dns
    dns.lookup = ((name: string, _options: unknown, done: Done) => {
      names.push(name)
      answers.push(done)
    }) as never
    syncBuiltinESMExports()
    return { names, answers, lookup }
  }),
  ({ lookup }) =>
    Effect.sync(() => {
      dns.lookup = lookup
      syncBuiltinESMExports()
    })
)

it.effect("a name that the system still looks up is not asked for again, whoever stopped waiting", () =>
  Effect.gen(function*() {
    const { answers, names } = yield* asked
    const lookup = systemLookup()
    const ask = (host: string) => Effect.forkChild(lookup(host), { startImmediately: true })
    for (let attempt = 0; attempt < 5; attempt++) yield* Fiber.interrupt(yield* ask("zk1"))
    const [one, other] = [yield* ask("zk1"), yield* ask("zk2")]
    const two = yield* ask("zk1")
    assert.deepStrictEqual(names, ["zk1", "zk2"])
    answers[0]!(null, [{ address: "10.0.0.1" }])
    assert.deepStrictEqual([yield* Fiber.join(one), yield* Fiber.join(two)], [["10.0.0.1"], ["10.0.0.1"]])
    answers[1]!(new Error("EAI_AGAIN"))
    assert.match(String(yield* Effect.flip(Fiber.join(other))), /EAI_AGAIN/)
    // What was answered is asked anew.
    yield* Fiber.interrupt(yield* ask("zk1"))
    yield* Fiber.interrupt(yield* ask("zk2"))
    assert.deepStrictEqual(names, ["zk1", "zk2", "zk1", "zk2"])
    // One that fails when nobody waits is nobody's error.
    answers[2]!(new Error("EAI_AGAIN"))
    yield* turns
  }))

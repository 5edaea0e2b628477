import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { FakeZooKeeper } from "../src/testing/index.ts"
import { member, pass, path, seeded, settle, watch, zk } from "./support.ts"

/** What a server set is to show of a tree, written down without regard to how it gets there. */
const expected = (fake: FakeZooKeeper["Service"]): string => {
  if (!fake.list("/services").includes("echo")) return "Neg"
  const names = fake.list(path)
  const weights = new Map<number, number>()
  for (const name of names.filter((each) => each.startsWith("vector_"))) {
    for (const [, shard, weight] of fake.read(`${path}/${name}`)!.matchAll(/"shard=(\d+)","weight":(-?\d+)/g)) {
      const product = weights.get(Number(shard)) ?? 1
      weights.set(Number(shard), weight === "-1" ? NaN : product * Number(weight))
    }
  }
  const shown = new Map<number, string>()
  for (const name of names.filter((each) => each.startsWith("member_"))) {
    const data = fake.read(`${path}/${name}`)!
    const [, port, status, shard] = /"port":(\d+).*"status":"(\w+)".*"shard":(\d+)/.exec(data) ?? []
    if (port === undefined) continue
    const weight = weights.get(Number(shard)) ?? 1
    // The last one at a port tells.
    if (status !== "ALIVE" || Number.isNaN(weight)) shown.delete(Number(port))
    else shown.set(Number(port), weight === 1 ? port : `${port}*${weight}`)
  }
  return ["Bound", ...[...shown.values()].toSorted()].join(" ")
}

/** A state in words, in the order that `expected` has. */
const sorted = (text: string): string => {
  const [tag, ...rest] = text.split(" ")
  return [tag, ...rest.toSorted()].join(" ")
}

/** What happens to the tree and to the session in one run, and how often: what the numbers of reads are judged by. */
interface Counts {
  /** Changes of the directory's children, of which each may cost a read of it, and one more where it is not there. */
  children: number
  /** Changes of data, and nodes that are new. */
  data: number
  /** Sessions that there were, with the nodes that each had to read again. */
  sessions: number
  nodes: number
  /** Operations that failed, or whose connection broke. */
  faults: number
}

/** One random history. */
const history = (seed: number) =>
  Effect.gen(function*() {
    const fake = yield* FakeZooKeeper
    const random = seeded(seed)
    const below = (bound: number) => Math.floor(random() * bound)
    const counts: Counts = { children: 0, data: 0, sessions: 1, nodes: 0, faults: 0 }
    const log: Array<string> = []
    let born = 0
    const nodes = () => fake.list(path)
    const content = (): string => {
      const shard = below(4)
      const data = member(1 + below(8), { shard })
      return [data, data, data, data.replace("ALIVE", "DEAD"), "garbage", ""][below(6)]!
    }
    const change = (name: string, data: string) => {
      if (!nodes().includes(name)) counts.children += 2
      counts.data++
      fake.put(`${path}/${name}`, data)
    }
    const steps: ReadonlyArray<[what: string, weight: number, run: () => void]> = [
      ["join", 8, () => change(`member_${String(born++).padStart(10, "0")}`, content())],
      ["join again", 2, () => change(`member_${below(10)}`, content())],
      ["rewrite", 6, () => {
        const [name] = nodes().filter((each) => each.startsWith("member_")).slice(below(4))
        if (name !== undefined) change(name, content())
      }],
      ["leave", 6, () => {
        const name = nodes()[below(nodes().length + 1)]
        if (name === undefined) return
        counts.children++
        counts.data++
        fake.remove(`${path}/${name}`)
      }],
      ["weigh", 2, () => {
        const line = { select: `shard=${below(4)}`, weight: [-1, 2, 3][below(3)] }
        change(`vector_${below(2)}`, JSON.stringify({ vector: [line] }))
      }],
      ["other node", 1, () => change(`other_${below(3)}`, "x")],
      ["path deleted", 1, () => {
        counts.children += nodes().length + 2
        counts.data += nodes().length
        fake.remove(path)
      }],
      ["path made", 1, () => {
        counts.children += 2
        fake.put(path)
      }],
      ["disconnect", 2, () => {
        // What was under way is read again.
        counts.faults += 6
        fake.disconnect()
      }],
      ["reconnect", 4, () => fake.reconnect()],
      ["expire", 1, () => {
        counts.sessions++
        // All of them, and again what was under way.
        counts.nodes += nodes().length + 6
        fake.expire()
      }],
      ["fail", 2, () => {
        const failure = (["ConnectionLoss", "ZooKeeperFailed", "NoAuth", "OperationTimeout"] as const)[below(4)]!
        counts.faults++
        fake.failNext((["get", "children", "exists"] as const)[below(3)]!, failure)
      }],
      ["slow", 1, () => fake.slow(below(3) * 20)]
    ]
    const total = steps.reduce((sum, [, weight]) => sum + weight, 0)

    const { last, seen } = yield* watch({ reads: 1 + below(5) })
    for (let step = 0; step < 60; step++) {
      let draw = below(total)
      const [what, , run] = steps.find(([, weight]) => (draw -= weight) < 0)!
      log.push(what)
      run()
      // Some happen together, some one after the other.
      if (random() < 0.6) yield* pass(1 + below(3), below(50))
    }
    fake.slow(0)
    fake.reconnect()
    // What failed is tried again after 5 minutes at most, and each fault that is left may make it fail once more.
    const isRight = () => sorted(last()) === sorted(expected(fake))
    for (let round = 0; round < 400 && (round < 4 || !isRight()); round++) yield* pass(3, "100 seconds")
    yield* settle
    const told = `seed ${seed}: ${log.join(", ")}`
    assert.strictEqual(sorted(last()), sorted(expected(fake)), told)

    const wanted = nodes().filter((name) => /^(member|vector)_/.test(name)).length
    assert.isAtMost(fake.watches(), wanted + 2, told)
    assert.isAtMost(fake.count("children"), counts.children + 2 * counts.sessions + counts.faults + 5, told)
    assert.isAtMost(fake.count("get"), counts.data + counts.nodes + counts.faults + 5, told)
    return seen.length
  })

describe("a server set, whatever happens", () => {
  it.effect("shows what the tree holds when all is quiet again", () =>
    Effect.gen(function*() {
      const seeds = 300
      let states = 0
      for (let seed = 0; seed < seeds; seed++) {
        states += yield* Effect.scoped(Effect.provide(history(seed), zk({ removals: 0, empty: 0 }, seed)))
      }
      // Histories in which nothing is ever shown would prove nothing.
      assert.isAbove(states, seeds * 5)
    }), 60_000)
})

// What the last line says, and what is measured for it.
import { assert, describe, it } from "vitest"
import type { AloneReport } from "../src/aloneReport.ts"
import type { Memory, Sample, Timed } from "../src/Child.ts"
import type { OpenSeries } from "../src/openRounds.ts"
import { aimedAt, meets, otherTargets, type Ratio, ratioNames, ratios } from "../src/ratios.ts"
import { reportOf, resultsOf } from "../src/report.ts"
import type { CellSeries, SceneSeries } from "../src/rounds.ts"
import type { Results } from "../src/results.ts"
import { type Cell, cellsOf, type Scene, sceneNames, scenes } from "../src/scenes.ts"
import { text } from "../src/text.ts"

/** CPU a call by client, in microseconds, a quarter of it in the system; what is not named costs 60. */
const costs: Record<string, number> = { floor: 2, ours: 6, oursQuiet: 5, thriftNpm: 42, grpcJs: 60, finagle: 18 }

const sampleOf = (micros: number): Sample => ({
  userMicros: micros * 0.75,
  systemMicros: micros * 0.25,
  callsPerSecond: 1e6 / micros
})

const timedOf = (micros: number): Timed => ({
  p50: micros,
  p99: micros * 10,
  p999: micros * 20,
  calls: 1000,
  callsPerSecond: 1e6 / micros
})

/** Each round the machine is slower by half. */
const seriesOf = ({ client, level }: Cell): CellSeries => {
  const micros = costs[client] ?? 60
  const memory: Memory = { allocatedBytes: client === "scalesPython" ? null : micros * 100, residentBytes: 5e7 }
  return {
    client,
    level,
    samples: [1, 1.5, 2.25].map((slower) => sampleOf(micros * slower)),
    timed: [timedOf(micros)],
    memory: [memory]
  }
}

const everything: ReadonlyArray<SceneSeries> = sceneNames.map((scene) => ({
  scene,
  rounds: 3,
  cells: cellsOf(scene).map(seriesOf)
}))

const open: OpenSeries = {
  rates: [50_000, 40_000, 30_000],
  ours: [timedOf(12), timedOf(26), timedOf(36)],
  floor: [timedOf(10), timedOf(20), timedOf(30)],
  low: new Map([["ours", [timedOf(80)]]])
}

const alone: AloneReport = {
  ratios: { pick10kMicros: 0.4, pickGrowth: 5, idleEndpointBytes: 9000 },
  details: {} as AloneReport["details"]
}

const none = new Map<never, never>()
const whole = reportOf({ scenes: everything, open, alone, absent: none })
/** As it is read from the output. */
const line = JSON.parse(JSON.stringify(resultsOf(whole))) as Results

/** The keys of the table of targets; `heap` is of the full run alone. */
const aimed = [
  "thriftNpm",
  "grpcJs",
  "floor64",
  "floor1",
  "finagle",
  "scalesPython",
  "framed",
  "http",
  "balancedHttp",
  "p99",
  "pick10kMicros",
  "pickGrowth",
  "idleEndpointBytes"
]

describe("the last line", () => {
  it("has every ratio that has a target, and those that have none", () => {
    assert.includeMembers(Object.keys(line.ratios), [
      ...aimed,
      "metricsOn",
      "traced",
      "effectRpc",
      "http1",
      "framedOne"
    ])
    assert.sameMembers(Object.keys(line.targets), aimed)
    assert.includeMembers(Object.keys(line.ratios), [...ratioNames])
  })

  it("takes each ratio from the same round: a machine that becomes slower does not show", () => {
    assert.strictEqual(line.ratios["floor64"], 3)
    assert.deepStrictEqual(line.quartiles["floor64"], [3, 3])
    assert.strictEqual(line.ratios["thriftNpm"], 7)
    assert.strictEqual(line.ratios["metricsOn"], 1.2)
    assert.strictEqual(line.ratios["p99"], 1.2)
  })

  it("says which targets are met", () => {
    const met = Object.entries(line.targets).filter(([, target]) => target.met).map(([key]) => key)
    assert.sameMembers(met, [
      "thriftNpm",
      "floor64",
      "finagle",
      "http",
      "balancedHttp",
      "p99",
      "pick10kMicros",
      "idleEndpointBytes"
    ])
    const told = text(whole)
    const missed = "targets that are not met: grpcJs, floor1, scalesPython, framed, pickGrowth"
    assert.include(told, missed)
  })

  it("has user and system time, latency and memory of each client, where they were looked at", () => {
    assert.deepStrictEqual(line.clients.ours!["64"], {
      microsPerCall: 9,
      quartiles: [7.5, 11.25],
      userMicros: 6.75,
      systemMicros: 2.25,
      callsPerSecond: 111_111,
      latency: { p50Micros: 6, p99Micros: 60, p999Micros: 120, callsPerSecond: 166_667 },
      allocatedBytes: 600,
      residentBytes: 50_000_000
    })
    assert.notProperty(line.clients.scalesPython!["64"]!, "allocatedBytes")
    assert.sameMembers(Object.keys(line.scenes), ["payload4k", "payload1m", "endpoints10", "endpoints1000"])
  })

  it("leaves out what was not measured", () => {
    const cells = cellsOf("mux").filter(({ client, level }) => level === 64 && client !== "finagle")
    const part = reportOf({
      scenes: [{ scene: "mux", rounds: 3, cells: cells.map(seriesOf) }],
      open: undefined,
      alone: undefined,
      absent: new Map([["finagle", "no Java (`java`) here"]])
    })
    const { absent, ratios } = resultsOf(part)
    assert.property(ratios, "floor64")
    for (const key of ["floor1", "finagle", "framed", "p99", "pickGrowth"]) assert.notProperty(ratios, key)
    assert.deepStrictEqual(absent, { finagle: "no Java (`java`) here" })
    assert.include(text(part), "Finagle on the JVM is left out: no Java")
  })
})

describe("what is measured", () => {
  it("has both sides of every ratio", () => {
    for (const name of ratioNames) {
      const { above, below, level, scene }: Ratio = ratios[name]
      const { clients, levels }: Scene = scenes[scene]
      assert.includeMembers([...clients], [above, below], name)
      assert.include([...levels], level, name)
    }
  })

  it("is in the quick run just what has a target", () => {
    const quick = sceneNames.flatMap((scene) => aimedAt(scene).map(({ client, level }) => `${client} ${level}`))
    assert.sameMembers(quick, [
      "thriftNpm 64",
      "ours 64",
      "grpcJs 64",
      "floor 64",
      "ours 1",
      "floor 1",
      "finagle 64",
      "scalesPython 64",
      "npmBinary8 64",
      "oursBinary8 64",
      "oursHttp 64",
      "undici 64",
      "oursBalancedHttp 64",
      "effectHttp 64"
    ])
  })

  it("has targets with a bound that is part of them", () => {
    assert.isTrue(meets(6, { atLeast: 6 }))
    assert.isFalse(meets(5.9, { atLeast: 6 }))
    assert.isTrue(meets(1.5, otherTargets["p99"]!))
    assert.isFalse(meets(1.51, otherTargets["p99"]!))
  })
})

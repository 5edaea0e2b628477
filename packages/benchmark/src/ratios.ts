/** The ratios that the benchmark is for, by key: whose cost against whose, where, and what is aimed at. */
import type { ClientName } from "./peers.ts"
import type { Cell, Level, SceneName } from "./scenes.ts"

/** At least or at most so much. */
export type Target = { readonly atLeast: number } | { readonly atMost: number }

/** Whether a value is within its target. */
export const meets = (value: number, target: Target): boolean =>
  "atLeast" in target ? value >= target.atLeast : value <= target.atMost

/** A target in a few characters. */
export const targetText = (target: Target): string =>
  "atLeast" in target ? `>= ${target.atLeast}` : `<= ${target.atMost}`

/** The CPU a call of one client over that of another. */
export interface Ratio {
  readonly scene: SceneName
  readonly above: ClientName
  readonly below: ClientName
  readonly level: Level
  /** `undefined`: told, and nothing is aimed at. */
  readonly target?: Target
}

const mux = (above: ClientName, below: ClientName, level: Level, target?: Target): Ratio => ({
  scene: "mux",
  above,
  below,
  level,
  ...(target === undefined ? {} : { target })
})

const framed = (above: ClientName, below: ClientName, target?: Target): Ratio => ({
  ...mux(above, below, 64, target),
  scene: "framed"
})

const http = (above: ClientName, below: ClientName, level: Level, target?: Target): Ratio => ({
  ...mux(above, below, level, target),
  scene: "http"
})

const of = (scene: SceneName, level: Level): Ratio => ({ scene, above: "ours", below: "floor", level })

/** By key, those that have a target first. */
export const ratios = {
  thriftNpm: mux("thriftNpm", "ours", 64, { atLeast: 6 }),
  grpcJs: mux("grpcJs", "ours", 64, { atLeast: 15 }),
  floor64: mux("ours", "floor", 64, { atMost: 3.5 }),
  floor1: mux("ours", "floor", 1, { atMost: 1.5 }),
  finagle: mux("finagle", "ours", 64, { atLeast: 3 }),
  scalesPython: mux("scalesPython", "ours", 64, { atLeast: 20 }),
  framed: framed("npmBinary8", "oursBinary8", { atLeast: 3 }),
  http: http("oursHttp", "undici", 64, { atMost: 1.25 }),
  balancedHttp: http("oursBalancedHttp", "effectHttp", 64, { atMost: 1.15 }),
  metricsOn: mux("ours", "oursQuiet", 64),
  traced: mux("oursTraced", "ours", 64),
  promises: mux("oursPromise", "ours", 64),
  effectRpc: mux("effectRpc", "ours", 64),
  undiciJson: mux("undiciJson", "ours", 64),
  thriftNpm1: mux("thriftNpm", "ours", 1),
  grpcJs1: mux("grpcJs", "ours", 1),
  finagle1: mux("finagle", "ours", 1),
  finagleQuiet: mux("finagleQuiet", "oursQuiet", 64),
  floor8: mux("ours", "floor", 8),
  floor512: mux("ours", "floor", 512),
  framedCompact: framed("npmCompact8", "oursCompact8"),
  framedOne: framed("npmBinary1", "oursBinary1"),
  http1: http("oursHttp", "undici", 1),
  httpFour: http("oursHttpFour", "undiciFour", 64),
  httpFour1: http("oursHttpFour", "undiciFour", 1),
  balancedHttp1: http("oursBalancedHttp", "effectHttp", 1),
  balancedHttpFour: http("oursBalancedHttpFour", "effectHttpFour", 64),
  balancedHttpFour1: http("oursBalancedHttpFour", "effectHttpFour", 1),
  payload4k: of("payload4k", 64),
  payload1m: of("payload1m", 8),
  endpoints10: of("endpoints10", 64),
  endpoints1000: of("endpoints1000", 64)
} as const satisfies Record<string, Ratio>

/** The key of a ratio of CPU. */
export type RatioName = keyof typeof ratios

/** The keys, in order. */
export const ratioNames = Object.keys(ratios) as ReadonlyArray<RatioName>

/** What is aimed at with what is not a ratio of CPU: of latencies, and of the measures that are taken alone. */
export const otherTargets: Readonly<Record<string, Target>> = {
  p99: { atMost: 1.5 },
  pick10kMicros: { atMost: 1 },
  pickGrowth: { atMost: 4 },
  heap: { atMost: 1.05 },
  idleEndpointBytes: { atMost: 10_000 }
}

/** The cells of a scene without which a ratio that has a target cannot be told. */
export const aimedAt = (scene: SceneName): ReadonlyArray<Cell> => {
  const cells: Array<Cell> = []
  for (const name of ratioNames) {
    const ratio: Ratio = ratios[name]
    if (ratio.target === undefined || ratio.scene !== scene) continue
    for (const client of [ratio.above, ratio.below]) {
      if (!cells.some((cell) => cell.client === client && cell.level === ratio.level)) {
        cells.push({ client, level: ratio.level })
      }
    }
  }
  return cells
}

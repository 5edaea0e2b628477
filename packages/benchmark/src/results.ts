/** What a run has found, as it is kept in `docs/performance/results.json`: the object of its last line, read by the pages and plots made of it. */
import type { AloneReport } from "./aloneReport.ts"
import type { ClientName } from "./peers.ts"
import type { Target } from "./ratios.ts"
import type { SceneName } from "./scenes.ts"

/** How long calls took, in microseconds. */
export interface LatencyResult {
  readonly p50Micros: number
  readonly p99Micros: number
  readonly p999Micros: number
  readonly callsPerSecond: number
}

/** One client with one number of calls in flight. */
export interface CostResult {
  readonly microsPerCall: number
  readonly quartiles: readonly [number, number]
  readonly userMicros: number
  readonly systemMicros: number
  readonly callsPerSecond: number
  readonly latency?: LatencyResult
  readonly allocatedBytes?: number
  readonly residentBytes?: number
}

/** By client, and then by calls in flight. */
export type CostResults = { readonly [name in ClientName]?: Readonly<Record<string, CostResult>> }

/** All of it. What a run did not measure is not there. */
export interface Results {
  readonly ratios: Readonly<Record<string, number>>
  readonly quartiles: Readonly<Record<string, readonly [number, number]>>
  readonly targets: Readonly<Record<string, Target & { readonly met: boolean }>>
  /** Over mux, framed Thrift and HTTP, with the struct of 86 bytes. */
  readonly clients: CostResults
  /** The same of other payloads and of more endpoints. */
  readonly scenes: { readonly [name in SceneName]?: CostResults }
  readonly open?: {
    /** Calls a second of `ours` and `floor`. */
    readonly rate: number
    readonly ours: LatencyResult
    readonly floor: LatencyResult
    /** Of every client at 1,000 calls a second. */
    readonly low: { readonly [name in ClientName]?: LatencyResult }
  }
  readonly alone?: AloneReport["details"]
  /** Clients that the machine could not have, with why. */
  readonly absent: { readonly [name in ClientName]?: string }
  /** Of mux, of framed Thrift, and of HTTP. */
  readonly rounds: number
  readonly framedRounds: number
  readonly httpRounds: number
  readonly node: string
  readonly platform: string
  readonly cores: number
}

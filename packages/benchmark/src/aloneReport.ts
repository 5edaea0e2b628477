/** The measures that are taken alone, without a peer beside them. */
import { measureBuild } from "./alone/build.ts"
import { measureCodec } from "./alone/codec.ts"
import { measureColdStart } from "./alone/coldStart.ts"
import { measureIdle } from "./alone/idle.ts"
import type { Extent } from "./alone/isolated.ts"
import { measureLatencyHistogram } from "./alone/latencyHistogram.ts"
import { measureOptions } from "./alone/options.ts"
import { measurePick } from "./alone/pick.ts"
import { measureSoak } from "./alone/soak.ts"
import { measureStages } from "./alone/stages.ts"

/** What they came to. */
export interface AloneReport {
  /** By key, as on the last line. */
  readonly ratios: Readonly<Record<string, number>>
  readonly details: {
    readonly pick: Awaited<ReturnType<typeof measurePick>>
    readonly codec: Awaited<ReturnType<typeof measureCodec>>
    readonly build: Awaited<ReturnType<typeof measureBuild>>
    readonly idle: Awaited<ReturnType<typeof measureIdle>>
    readonly latencyHistogram: Awaited<ReturnType<typeof measureLatencyHistogram>>
    readonly options: Awaited<ReturnType<typeof measureOptions>>
    readonly stages: Awaited<ReturnType<typeof measureStages>>
    /** `undefined`, as `soak`: not in a quick run. */
    readonly coldStart: Awaited<ReturnType<typeof measureColdStart>>
    readonly soak: Awaited<ReturnType<typeof measureSoak>>
  }
}

/** Takes them. */
export const measureAlone = async (extent: Extent, progress: (line: string) => void): Promise<AloneReport> => {
  const pick = await measurePick(extent, progress)
  const idle = await measureIdle(extent, progress)
  const build = await measureBuild(extent, progress)
  const codec = await measureCodec(extent, progress)
  const latencyHistogram = await measureLatencyHistogram(extent, progress)
  const options = await measureOptions(extent, progress)
  const stages = await measureStages(extent, progress)
  const coldStart = await measureColdStart(extent, progress)
  const soak = await measureSoak(extent, progress)
  const start = coldStart?.modules.find(({ name }) => name === "@scales-rpc/thriftmux")
  return {
    ratios: {
      ...pick.ratios,
      ...idle.ratios,
      buildMillis: build.find(({ endpoints }) => endpoints === 1)!.buildMillis.median,
      ...(start === undefined ? {} : { coldStart: start.importMillis.median }),
      ...soak?.ratios
    },
    details: { pick, codec, build, idle, latencyHistogram, options, stages, coldStart, soak }
  }
}

/** Ten million calls through the default stack, and the heap after garbage collection at ten points: it must not grow. */
import { connect } from "../clients/ours.ts"
import { Load } from "../Load.ts"
import { answering, type Extent, heapAfterGc, isolated } from "./isolated.ts"
import { startServers } from "./muxServers.ts"

/** The heap after so many calls, when none is under way. */
export interface SoakPoint {
  readonly calls: number
  readonly heapBytes: number
}

/** The points, and what the target is of: the heap at the last one as a multiple of that at the first. */
export interface SoakReport {
  readonly points: ReadonlyArray<SoakPoint>
  readonly ratios: { readonly heap: number }
}

const calls = 10_000_000

/** The first point: by then all that is made once has been made. */
const firstCalls = 100_000

interface Task {
  readonly port: number
  readonly calls: number
}

const inFlight = 64

const measureOne = async ({ calls, port }: Task): Promise<ReadonlyArray<SoakPoint>> => {
  const client = await connect(port)
  const points: Array<SoakPoint> = []
  let made = 0
  for (let point = 0; point < 10; point++) {
    const until = firstCalls + Math.round((calls - firstCalls) * point / 9)
    const load = new Load()
    const driven = client.drive(inFlight, load)
    const failed = driven.then<never>(() => {
      throw new Error("the calls ended by themselves")
    })
    // Stopped on purpose it is rejected too, and nobody waits for it any more.
    failed.catch(() => {})
    while (made + load.replies < until) await Promise.race([new Promise((resolve) => setTimeout(resolve, 5)), failed])
    load.stop()
    await driven
    made += load.replies
    points.push({ calls: made, heapBytes: await heapAfterGc() })
  }
  await client.close()
  return points
}

/** Makes the calls: none if `quick`. */
export const measureSoak = async (
  extent: Extent,
  progress: (line: string) => void
): Promise<SoakReport | undefined> => {
  if (extent === "quick") return undefined
  progress(`a soak: ${calls} calls`)
  const servers = await startServers(1)
  try {
    const task: Task = { port: servers.ports[0]!, calls }
    const points = await isolated<ReadonlyArray<SoakPoint>>(import.meta.url, task, ["--expose-gc"])
    return { points, ratios: { heap: points.at(-1)!.heapBytes / points[0]!.heapBytes } }
  } finally {
    await servers.stop()
  }
}

answering(import.meta, measureOne)

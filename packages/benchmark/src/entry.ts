/** The program of a Node child: is a server until its stdin ends, or a client that is measured when asked. */
import { writeFileSync } from "node:fs"
import { Session } from "node:inspector/promises"
import { createInterface } from "node:readline"
import { setTimeout as sleep } from "node:timers/promises"
import { GCProfiler, getHeapStatistics } from "node:v8"
import type { Answer, Memory, Part, Question, Sample, Timed } from "./Child.ts"
import { Latencies } from "./Latencies.ts"
import { type Client, Load } from "./Load.ts"
import { openLoop } from "./openLoop.ts"
import { nodeClients, servers } from "./peers.ts"
import { type Payload, workOf } from "./workload.ts"

/** How long the loops run before a window begins: caches and buffers are theirs again. */
const settleMillis = 40

const say = (answer: Answer): void => {
  process.stdout.write(`${JSON.stringify(answer)}\n`)
}

const fail = (error: unknown): void =>
  say({ _tag: "Failed", error: error instanceof Error ? error.stack ?? error.message : String(error) })

/** What is kept under way. */
interface Loop {
  readonly inFlight: number
  readonly payload: Payload
  readonly latencies?: Latencies
}

/** Runs `during` while the loops run; a failure of theirs ends it. */
const whileDriven = async <A>(
  client: Client,
  { inFlight, latencies, payload }: Loop,
  during: (load: Load) => Promise<A>
): Promise<A> => {
  const load = new Load(workOf(payload), latencies)
  const driven = client.drive(inFlight, load)
  const endedEarly = driven.then<never>(() => {
    throw new Error("the calls ended by themselves")
  })
  // Stopped on purpose it is rejected too, and nobody waits for it any more.
  endedEarly.catch(() => {})
  try {
    await Promise.race([sleep(settleMillis), endedEarly])
    return await Promise.race([during(load), endedEarly])
  } finally {
    load.stop()
    await driven
  }
}

/**
 * Waits so long, and longer when there is no reply by then: large payloads, or another program on the machine. Gives how many there were,
 * and how long it was.
 */
const replies = async (load: Load, millis: number): Promise<{ readonly calls: number; readonly elapsed: number }> => {
  const before = load.replies
  const started = performance.now()
  for (let windows = 0; load.replies === before; windows++) {
    if (windows === 20) throw new Error(`no reply within ${Math.round(performance.now() - started)} ms`)
    await sleep(millis)
  }
  return { calls: load.replies - before, elapsed: performance.now() - started }
}

const measure = (client: Client, loop: Loop, millis: number): Promise<Sample> =>
  whileDriven(client, loop, async (load) => {
    const cpu = process.cpuUsage()
    const { calls, elapsed } = await replies(load, millis)
    const { system, user } = process.cpuUsage(cpu)
    return { userMicros: user / calls, systemMicros: system / calls, callsPerSecond: calls * 1000 / elapsed }
  })

const closed = (client: Client, loop: Loop, millis: number): Promise<Timed> => {
  const latencies = new Latencies()
  return whileDriven(client, { ...loop, latencies }, async (load) => {
    latencies.clear()
    const { calls, elapsed } = await replies(load, millis)
    return { ...latencies.quantiles(), callsPerSecond: calls * 1000 / elapsed }
  })
}

/**
 * What a call allocates on V8's heap: by how much it grew, and what each garbage collection in the window freed. The contents of buffers
 * are elsewhere, and not in it. How much of the process is resident is read at the end.
 */
const memory = (client: Client, loop: Loop, millis: number): Promise<Memory> =>
  whileDriven(client, loop, async (load) => {
    const collections = new GCProfiler()
    const used = () => getHeapStatistics().used_heap_size
    collections.start()
    const before = used()
    const { calls } = await replies(load, millis)
    const grown = used() - before
    const { statistics } = collections.stop()!
    const freed = statistics.reduce(
      (sum, { afterGC, beforeGC }) => sum + beforeGC.heapStatistics.usedHeapSize - afterGC.heapStatistics.usedHeapSize,
      0
    )
    return { allocatedBytes: (grown + freed) / calls, residentBytes: process.memoryUsage.rss() }
  })

/** Start-up and warm-up are left out of the profile, as `--cpu-prof` cannot. */
const profile = (client: Client, loop: Loop, millis: number, file: string): Promise<void> =>
  whileDriven(client, loop, async () => {
    const session = new Session()
    session.connect()
    await session.post("Profiler.enable")
    await session.post("Profiler.setSamplingInterval", { interval: 100 })
    await session.post("Profiler.start")
    await sleep(millis)
    const result = await session.post("Profiler.stop")
    writeFileSync(file, JSON.stringify(result.profile))
    session.disconnect()
  })

const answer = async (client: Client, question: Question): Promise<Answer> => {
  switch (question._tag) {
    case "Measure":
      return { _tag: "Sampled", sample: await measure(client, question, question.millis) }
    case "Closed":
      return { _tag: "Timed", timed: await closed(client, question, question.millis) }
    case "Open": {
      const { millis, payload, rate } = question
      return { _tag: "Timed", timed: await openLoop(client, workOf(payload), { rate, settleMillis, millis }) }
    }
    case "Memory":
      return { _tag: "Remembered", memory: await memory(client, question, question.millis) }
    case "Profile":
      await profile(client, { ...question, payload: 86 }, question.millis, question.file)
      return { _tag: "Done" }
    case "Close":
      await client.close()
      process.exit()
  }
}

const part = JSON.parse(process.argv[2]!) as Part
const lines = createInterface({ input: process.stdin })
// The parent is gone, or wants no more: nobody is left to answer.
lines.on("close", () => process.exit())
try {
  if (part._tag === "Server") {
    const server = await servers[part.name](part.count)
    lines.on("line", () => process.exit())
    say({ _tag: "Ready", ports: server.ports })
  } else {
    const client = await nodeClients[part.name].connect(...part.ports as [number, ...Array<number>])
    lines.on("line", (line) => {
      answer(client, JSON.parse(line) as Question).then(say, fail)
    })
    say({ _tag: "Ready", ports: part.ports })
  }
} catch (error) {
  fail(error)
  process.exitCode = 1
  lines.close()
}

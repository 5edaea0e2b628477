/** The program of a child: is a server until it is told to close, or a client that is measured when asked. */
import { writeFileSync } from "node:fs"
import { Session } from "node:inspector/promises"
import { setTimeout as sleep } from "node:timers/promises"
import type { Answer, Part, Question, Sample } from "./Child.ts"
import { type Client, Load } from "./Load.ts"
import { clients, servers } from "./peers.ts"

/** How long the loops run before a window begins: caches and buffers are theirs again. */
const settleMillis = 40

const say = (answer: Answer): void => {
  process.send?.(answer)
}

const fail = (error: unknown): void =>
  say({ _tag: "Failed", error: error instanceof Error ? error.stack ?? error.message : String(error) })

/** Runs `during` while the loops run; a failure of theirs ends it. */
const whileDriven = async <A>(client: Client, inFlight: number, during: (load: Load) => Promise<A>): Promise<A> => {
  const load = new Load()
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

const measure = (client: Client, inFlight: number, millis: number): Promise<Sample> =>
  whileDriven(client, inFlight, async (load) => {
    const replies = load.replies
    const started = performance.now()
    const cpu = process.cpuUsage()
    await sleep(millis)
    const used = process.cpuUsage(cpu)
    const elapsed = performance.now() - started
    const calls = load.replies - replies
    if (calls === 0) throw new Error(`no reply within ${Math.round(elapsed)} ms`)
    return { microsPerCall: (used.user + used.system) / calls, callsPerSecond: calls * 1000 / elapsed }
  })

/** Start-up and warm-up are left out of the profile, as `--cpu-prof` cannot. */
const profile = (client: Client, inFlight: number, millis: number, file: string): Promise<void> =>
  whileDriven(client, inFlight, async () => {
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

const answer = async (client: Client, question: Question): Promise<void> => {
  switch (question._tag) {
    case "Measure":
      return say({ _tag: "Sampled", sample: await measure(client, question.inFlight, question.millis) })
    case "Profile":
      await profile(client, question.inFlight, question.millis, question.file)
      return say({ _tag: "Done" })
    case "Close":
      await client.close()
      process.disconnect()
  }
}

const part = JSON.parse(process.argv[2]!) as Part
// The parent is gone: nobody is left to answer.
process.on("disconnect", () => process.exit())
try {
  if (part._tag === "Server") {
    const server = await servers[part.name]()
    process.on("message", () => process.disconnect())
    say({ _tag: "Ready", ports: server.ports })
  } else {
    const client = await clients[part.name].connect(...part.ports as [number, ...Array<number>])
    process.on("message", (question: Question) => {
      answer(client, question).catch(fail)
    })
    say({ _tag: "Ready", ports: part.ports })
  }
} catch (error) {
  fail(error)
  process.exitCode = 1
}

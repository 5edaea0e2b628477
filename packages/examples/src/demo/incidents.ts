/** What happens to the demo's servers: one is killed and started again, another is slowed down. */
import { Effect } from "effect"
import type { FleetServer, ServerFailed } from "./fleet.ts"

/** How the client has met them. */
export interface Met {
  /** From the moment when the killed server listens again to its first reply; `undefined`: none came within 10 seconds. */
  readonly recoveredMs: number | undefined
}

/** What incidents need of the demo. */
export interface Scene {
  readonly fleet: ReadonlyArray<FleetServer>
  readonly seconds: number
  readonly event: (text: string) => void
  /** When the last reply of a server came, in milliseconds since the epoch. */
  readonly lastReply: (server: FleetServer) => number
}

const slowMillis = 50

/** The incidents, one after another, each at its share of the demo's time. */
export const incidents = (scene: Scene): Effect.Effect<Met, ServerFailed> =>
  Effect.gen(function*() {
    const { event, lastReply } = scene
    const share = (part: number) => Effect.sleep(part * scene.seconds * 1000)
    const victim = scene.fleet[0]!
    const slowed = scene.fleet[1] ?? victim

    yield* share(0.2)
    event(`${victim.name} is killed (SIGKILL)`)
    yield* victim.kill
    yield* share(0.2)
    event(`${victim.name} is started again`)
    yield* victim.restart
    const backAt = Date.now()
    yield* Effect.sleep("5 millis").pipe(
      Effect.repeat({ until: () => lastReply(victim) > backAt }),
      Effect.timeoutOption("10 seconds")
    )
    const recoveredMs = lastReply(victim) > backAt ? lastReply(victim) - backAt : undefined
    event(
      recoveredMs === undefined
        ? `${victim.name} listens again, and got no call in 10 s`
        : `${victim.name} answers again, ${recoveredMs} ms after it began to listen`
    )
    yield* share(0.1)
    event(`${slowed.name} takes ${slowMillis} ms longer for every call`)
    yield* slowed.slow(slowMillis)
    yield* share(0.2)
    event(`${slowed.name} is as fast as before`)
    yield* slowed.slow(0)
    return { recoveredMs }
  })

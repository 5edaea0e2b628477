/** One thing that the suite holds every balancer to, before it is put over one. */
import * as Effect from "effect/Effect"
import type { CallContext } from "../../CallContext.ts"
import type { MakeBalancer } from "./family.ts"
import type { WorldFailure } from "./Mismatch.ts"
import { World, type WorldOptions } from "./World.ts"

/** What a case is run with. */
export interface Setting {
  readonly make: MakeBalancer
  readonly waiting: MakeBalancer | undefined
  readonly seed: number
  readonly schedules: number
  readonly spreads: boolean
  readonly uses: "all" | "some"
  readonly weights: boolean
  readonly repeats: boolean
  readonly context: ((call: number) => CallContext) | undefined
}

/** A case over a balancer to come. */
export interface Case {
  readonly name: string
  /** Whether the balancer is held to it. */
  readonly holds: (setting: Setting) => boolean
  readonly run: (setting: Setting) => Effect.Effect<unknown, WorldFailure>
}

/** A world of the setting. */
export const worldOf = <A>(
  setting: Setting,
  body: (world: World) => Effect.Effect<A, unknown>,
  change?: Partial<WorldOptions>
): Effect.Effect<A, WorldFailure> =>
  World.use({ make: setting.make, seed: setting.seed, context: setting.context, ...change }, body)

/** A case in one world. */
export const inWorld = (
  name: string,
  body: (world: World) => Generator<Effect.Effect<any, unknown>, void, any>,
  holds: (setting: Setting) => boolean = () => true
): Case => ({
  name,
  holds,
  run: (setting) => worldOf(setting, (world) => Effect.gen(() => body(world)))
})

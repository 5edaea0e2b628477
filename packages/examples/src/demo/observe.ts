/** What the client's own stages say of themselves, through `describe`: nothing in it was made for the demo. */
import { type Balancer, describe, Stacks } from "@scales-rpc/core"
import { Effect } from "effect"

/** The state of the client at one moment. When it has no call, `tags`, `loads` and `outstanding` are 0, or something leaked. */
export interface Observed {
  /** In the order of the server set. */
  readonly endpoints: ReadonlyArray<Balancer.EndpointView>
  /** Tags that are held in the sessions. */
  readonly tags: number
  /** Attempts that the balancer counts, at all endpoints. */
  readonly loads: number
  /** Calls that the dispatcher counts. */
  readonly outstanding: number
  /** Attempts that were made again because the one before provably never ran. */
  readonly requeues: number
}

/** What the stages that are read here show of themselves; every stage has a state of its own. */
interface States {
  readonly dispatcher: { readonly outstanding: number }
  readonly requeue: { readonly requeues: number }
  readonly balancer: { readonly endpoints: ReadonlyArray<Balancer.EndpointView> }
  readonly transport: { readonly sessions: ReadonlyArray<{ readonly tags: number }> }
}

/** Reads the one stack of the program. */
export const observe: Effect.Effect<Observed, never, Stacks> = Effect.map(Stacks, (stacks) => {
  const stages = stacks.list().flatMap((stack) => describe(stack).stages)
  const state = <Role extends keyof States>(role: Role): States[Role] =>
    stages.find((stage) => stage.role === role)!.state as States[Role]
  const { endpoints } = state("balancer")
  return {
    endpoints,
    tags: state("transport").sessions.reduce((sum, { tags }) => sum + tags, 0),
    loads: endpoints.reduce((sum, { load }) => sum + load, 0),
    outstanding: state("dispatcher").outstanding,
    requeues: state("requeue").requeues
  }
})

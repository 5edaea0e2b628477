/** What the chaos runs need of a protocol: its servers, a client, and what a call of it is. */
import type { BuildError, DescribedStage, RpcError, Stacks } from "@scales-rpc/core"
import type { Effect, Scope } from "effect"
import type { Watch } from "./watch.ts"

/** Makes the call of a number, no two alike; gives whether its reply is its own. A call of it is not sent again once it may have run. */
export type Caller = (index: number) => Effect.Effect<boolean, unknown>

/** The client that a scenario is run with: its stack is the protocol's default one. */
export interface ClientOptions {
  readonly uri: string
  /** The scenario's name. */
  readonly label: string
  /** How long a call may take, in milliseconds. */
  readonly timeout: number
}

/** One of them. */
export interface Protocol {
  readonly name: string
  /**
   * The program of one server. It listens on the port in its first argument, 0 for any, and tells `{ port }`; takes a `Mood`, or `reset`, and
   * tells `{ done }`; drains on SIGTERM.
   */
  readonly server: URL
  /** The scenarios that are run when none is named. */
  readonly scenarios: ReadonlyArray<string>
  /** Builds a client that is watched between balancer and breakers. */
  readonly connect: (
    options: ClientOptions,
    watch: Watch
  ) => Effect.Effect<Caller, BuildError | RpcError, Scope.Scope | Stacks>
  /** What a stack holds of its calls in its transport: 0 when it has none, or something leaked. */
  readonly held: (stages: ReadonlyArray<DescribedStage>) => number
}

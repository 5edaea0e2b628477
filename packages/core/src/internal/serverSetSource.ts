/** Where the states of a server set come from, as far as it is known: for whoever describes the client that is balanced over it. */
import * as Context from "effect/Context"
import type { OptionInForce } from "../Describe.ts"
import type { States } from "../ServerSetState.ts"

/** What is known of one server set. */
export interface Source {
  /** The set that it says this of: a server set of the user's own may stand in its place. */
  readonly states: States
  /** As options are described. */
  readonly options: Readonly<Record<string, OptionInForce>>
  /** It logs by itself when it cannot be read, and when it can again. */
  readonly logs: boolean
}

/** The source of the server set that is provided beside it. */
export const ServerSetSource: Context.Reference<Source | undefined> = Context.Reference<Source | undefined>(
  "@scales-rpc/core/ServerSetSource",
  { defaultValue: () => undefined }
)

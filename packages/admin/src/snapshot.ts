/** What the page shows, at one moment: the description of every client and server, with no more endpoints than somebody can look at. */
import { describe, type Description, type Stacks } from "@scales-rpc/core"

/** How many endpoints of a set are shown, those first that are not well, then those with the most load. */
const endpoints = 200

/** What is there. */
export interface Page {
  /** Milliseconds since 1970. */
  readonly at: number
  readonly clients: ReadonlyArray<Description>
  readonly servers: ReadonlyArray<Description>
}

/** Everything that is in the directory. */
export const snapshot = (stacks: typeof Stacks.Service, at: number): Page => ({
  at,
  clients: stacks.list().map((stack) => describe(stack, { endpoints })),
  servers: stacks.servers().map((server) => describe(server, { endpoints }))
})

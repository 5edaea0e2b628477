/** Everything that schedules are run against. */
import { client } from "./client.ts"
import type { Subject } from "./explore.ts"
import { server } from "./server.ts"

/** By the names that `--side` takes. */
export const subjects: ReadonlyArray<Subject> = [client, server]

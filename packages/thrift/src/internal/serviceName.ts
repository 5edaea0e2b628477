/** The check of a service's name on a multiplexed connection, when a layer is built. */
import { InvalidOption } from "@scales-rpc/core"
import * as Effect from "effect/Effect"
import { split } from "../Multiplexed.ts"

/** Some text, and no colon, which would end it. `option` is what the user calls the name. */
export const checkedServiceName = (option: string, name: string): Effect.Effect<string, InvalidOption> =>
  typeof name === "string" && name !== "" && split(name).service === undefined
    ? Effect.succeed(name)
    : Effect.fail(new InvalidOption({ option, got: name, expected: "a name without a colon" }))

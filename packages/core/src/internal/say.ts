/** Says a change of state where no stack is at hand, but may be in the context: server sets and TLS are used without a client too. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Stack } from "../Stack.ts"
import { withoutSecrets } from "./plain.ts"

/** In the log of the client that this runs for, a warning among its faults too; without a client, as a line of its own. */
export const say = (
  level: "info" | "warning",
  message: string,
  annotations: Readonly<Record<string, string>>
): Effect.Effect<void> =>
  Effect.flatMap(Effect.serviceOption(Stack), (stack) => {
    if (Option.isNone(stack)) {
      const line = level === "info" ? Effect.logInfo(message) : Effect.logWarning(message)
      return Effect.annotateLogs(line, withoutSecrets(annotations))
    }
    return Effect.sync(() => {
      const { faults, log } = stack.value
      log.say(level, message, annotations)
      if (level === "warning") faults.note({ what: message, cause: annotations["cause"] })
    })
  })

/** A program that calls a service: what the tests of `test/submit.test.ts` are about. */
import { Rpc } from "@scales-rpc/core"
import { Effect } from "effect"
import Int64 from "node-int64"
import { Message, Refused } from "../gen/echo_types.js"
import { Echo } from "./echo.ts"

const messageOf = (text: string) => new Message({ text, number: new Int64(0), items: [] })

/** Hands a text in, and says what became of it. It waits for two seconds at most. */
export const submit = (text: string) =>
  Echo.use((echo) => echo.fail(text, new Int64(0))).pipe(
    Rpc.deadline("2 seconds"),
    Effect.as("accepted"),
    Effect.catchTag("ThriftException", ({ exception }) =>
      Effect.succeed(
        exception instanceof Refused ? `refused: ${exception.why}` : `${Number(exception.missing)} missing`
      )),
    Effect.catchTag("Timeout", () => Effect.succeed("nobody there"))
  )

/** Reads texts back, two at a time. Reading twice does no harm, so that what fails may be sent again. */
export const readAll = (texts: ReadonlyArray<string>) =>
  Effect.forEach(
    texts,
    (text) =>
      Echo.use((echo) => echo.passMessage(messageOf(text))).pipe(
        Effect.map((message) => message.text),
        Rpc.context("tenant", "acme"),
        Rpc.idempotent
      ),
    { concurrency: 2 }
  )

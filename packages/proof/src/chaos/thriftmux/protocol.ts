/** ThriftMux under chaos: its transport counts the tags that it holds. */
import { ThriftMux } from "@scales-rpc/thriftmux"
import { Context, Effect, Layer } from "effect"
import Int64 from "node-int64"
import { Message } from "../../../../examples/gen/echo_types.js"
import { Echo } from "../../../../examples/src/echo.ts"
import { Mux } from "@scales-rpc/mux"
import type { Protocol } from "../protocol.ts"
import { scenarios } from "../scenarios.ts"

/** One call, and whether its reply is its own. */
export const call = (index: number) => {
  const sent = new Message({ text: `call ${index}`, number: new Int64(index), items: [index, -index] })
  return {
    sent,
    right: ({ items, number, text }: Message): boolean =>
      text === sent.text && number.equals(sent.number) && items.length === 2 && items[0] === index &&
      items[1] === -index
  }
}

/** The protocol. */
export const thriftmux: Protocol = {
  name: "thriftmux",
  server: new URL("./server.ts", import.meta.url),
  scenarios: scenarios.map(({ name }) => name),
  connect: (options, watch) =>
    Effect.map(Layer.build(ThriftMux.layer(Echo, { ...options, below: watch.layer(Mux) })), (context) => {
      const echo = Context.get(context, Echo)
      return (index) => {
        const { right, sent } = call(index)
        return Effect.map(echo.passMessage(sent), right)
      }
    }),
  held: (stages) => {
    const { sessions } = stages.find(({ role }) => role === "transport")!.state as {
      readonly sessions: ReadonlyArray<{ readonly tags: number }>
    }
    return sessions.reduce((sum, { tags }) => sum + tags, 0)
  }
}

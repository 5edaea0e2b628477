/** HTTP under chaos: its transport counts the connections that are busy. */
import { Http, HttpBody, HttpService, HttpWire } from "@scales-rpc/http"
import { Context, Effect, Layer } from "effect"
import type { Protocol } from "../protocol.ts"

class Site extends HttpService<Site>()("Site") {}

/**
 * A POST, which is not sent again once it may have run; but a PUT where no call may fail though servers go. HTTP/1 has no word for that before
 * it: with the socket that a server listens on go connections which it has not taken yet, and what was sent on them.
 */
const methodOf = (scenario: string) => scenario === "rolling" ? "PUT" : "POST"

/** The protocol. Of the scenarios those that differ from one to the other: of a server that dies, one and several are alike. */
export const http: Protocol = {
  name: "http",
  server: new URL("./server.ts", import.meta.url),
  scenarios: ["kill", "freeze", "slow", "errors", "nacks", "rolling"],
  connect: (options, watch) =>
    Effect.map(Layer.build(Http.layer(Site, { ...options, below: watch.layer(HttpWire) })), (context) => {
      const site = Context.get(context, Site)
      const method = methodOf(options.label)
      return (index) => {
        const sent = `call ${index}`
        return Effect.map(
          site.request(method, `/echo/${index}`, { body: HttpBody.text(sent) }),
          ({ text }) => text === sent
        )
      }
    }),
  held: (stages) => {
    const { connections } = stages.find(({ role }) => role === "transport")!.state as {
      readonly connections: ReadonlyArray<{ readonly busy: number }>
    }
    return connections.reduce((sum, { busy }) => sum + busy, 0)
  }
}

/**
 * The program of users.ts, which called one server, over two: what changed is the line of `HttpLive`. One of them ends between its calls, and
 * it sees nothing of that. `node balanced.ts`
 */
import { NodeHttpServer } from "@effect/platform-node"
import { BalancedHttpClient } from "@scales-rpc/http"
import { Context, Effect, Exit, Layer, Scope } from "effect"
import { HttpRouter, HttpServer, HttpServerResponse } from "effect/http"
import { createServer } from "node:http"
import { namesOf } from "./users.ts"

const people = new Map([["1", "Ada"], ["2", "Grace"], ["3", "Barbara"]])

const routes = HttpRouter.add(
  "GET",
  "/users/:id",
  Effect.map(HttpRouter.params, ({ id = "" }) => {
    const name = people.get(id)
    return name === undefined
      ? HttpServerResponse.empty({ status: 404 })
      : HttpServerResponse.jsonUnsafe({ id: Number(id), name })
  })
)

/** A server of Effect's, until the scope closes: its address. */
const serve = Effect.map(
  Layer.build(
    HttpRouter.serve(routes, { disableListenLog: true, disableLogger: true }).pipe(
      Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 })),
      Layer.fresh
    )
  ),
  (context) => {
    const { address } = Context.get(context, HttpServer.HttpServer)
    return address._tag === "InetAddressV4" ? `127.0.0.1:${address.port}` : ""
  }
)

const program = Effect.gen(function*() {
  const first = yield* Scope.make()
  const servers = [yield* Effect.provideService(serve, Scope.Scope, first), yield* serve]

  // Before: const HttpLive = NodeHttpClient.layerUndici
  const HttpLive = BalancedHttpClient.layer({ uri: `tcp://${servers.join(",")}`, name: "localhost:3000" })

  yield* Effect.gen(function*() {
    console.log("over two servers:", ...yield* namesOf([1, 2, 3]))
    yield* Scope.close(first, Exit.void)
    console.log("over one:", ...yield* namesOf([1, 2, 3]))
    console.log("nobody:", ...yield* namesOf([4]))
  }).pipe(Effect.provide(HttpLive))
})

await Effect.runPromise(Effect.scoped(program))

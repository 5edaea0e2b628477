// What the tests share: the service, npm's web server for it, Node's with a handler of the test's, and clients.
import { describe, Stacks, type StackShape } from "@scales-rpc/core"
import { Seed } from "@scales-rpc/core/testing"
import { ThriftService } from "@scales-rpc/thrift"
import { Context, Effect, Layer, type Scope } from "effect"
import { createRequire } from "node:module"
import * as NodeHttp from "node:http"
import { Overdrawn, Refused } from "../../examples/gen/echo_types.js"
import * as EchoGen from "../../examples/gen/Echo.js"
import { listening, type NodeServer } from "../../http/test/nodeServer.ts"
import { ThriftHttp } from "../src/index.ts"

/** npm's library, whose types say less than it can. */
export const npm = createRequire(import.meta.url)("thrift")

export class Echo extends ThriftService<Echo>()("Echo", EchoGen) {}

/** What npm's server hands to its handlers. */
type Answer = (error: unknown, result?: unknown) => void

/** Handlers as npm's server takes them. */
export const handlers = {
  ping: (answer: Answer) => answer(null, "pong"),
  touch: (_: string, answer: Answer) => answer(null),
  passMessage: (message: unknown, answer: Answer) => answer(null, message),
  fail: (why: string, missing: { valueOf: () => number }, answer: Answer) =>
    answer(Number(missing) === 0 ? new Refused({ why }) : new Overdrawn({ missing } as never)),
  crash: (why: string, answer: Answer) => answer(new Error(why)),
  slow: (millis: number, answer: Answer) => void setTimeout(() => answer(null, `${millis}`), millis),
  blob: (bytes: unknown, answer: Answer) => answer(null, bytes)
}

/** npm's web server, with the service at `/echo`. */
export const apache = (
  protocol: unknown = npm.TBinaryProtocol,
  own: Record<string, unknown> = {}
): Effect.Effect<NodeServer<NodeHttp.Server>, never, Scope.Scope> =>
  Effect.suspend(() =>
    listening<NodeHttp.Server>(npm.createWebServer({
      services: {
        "/echo": {
          processor: EchoGen,
          handler: { ...handlers, ...own },
          transport: npm.TBufferedTransport,
          protocol
        }
      }
    }))
  )

/** A request as Node's server has it, with its whole body. */
export interface Posted {
  readonly method: string
  readonly url: string
  readonly headers: NodeHttp.IncomingHttpHeaders
  readonly body: Buffer
}

/** Node's server, which answers as the test says. */
export const answering = (
  answer: (posted: Posted, response: NodeHttp.ServerResponse) => void
): Effect.Effect<NodeServer<NodeHttp.Server> & { readonly posted: ReadonlyArray<Posted> }, never, Scope.Scope> => {
  const posted: Array<Posted> = []
  const server = NodeHttp.createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
    const chunks: Array<Buffer> = []
    request.on("data", (chunk: Buffer) => chunks.push(chunk))
    request.on("end", () => {
      const { headers, method, url } = request
      const whole = { method: method!, url: url!, headers, body: Buffer.concat(chunks) }
      posted.push(whole)
      answer(whole, response)
    })
  })
  return Effect.map(listening(server), (made) => ({ ...made, posted }))
}

/** A client, and its stack. */
export const client = (uri: string, options: ThriftHttp.ThriftHttpOptions = {}) =>
  Effect.map(
    Layer.build(
      Layer.provideMerge(ThriftHttp.layer(Echo, { path: "/echo", ...options, uri }), Stacks.layer).pipe(
        Layer.provide(Seed.layer(1))
      )
    ),
    (context) => ({ echo: Context.get(context, Echo), stack: Context.get(context, Stacks).list()[0]! })
  )

/** The state of the stage that has a role. */
export const stateOf = (stack: StackShape, role: string) =>
  describe(stack).stages.find((node) => node.role === role)!.state as Record<string, any>

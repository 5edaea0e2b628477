/**
 * A page that shows the clients and servers of a program while it runs, and its metrics for Prometheus. It reads only: every
 * request but GET and HEAD is refused, and nothing can be changed from it.
 */
import { Describe, type InvalidOption, Stacks } from "@scales-rpc/core"
import { wholeNumber } from "@scales-rpc/core/options"
import { addressOf, ListenFailed } from "@scales-rpc/core/socket"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import * as Option from "effect/Option"
import * as Http from "node:http"
import * as Net from "node:net"
import { page as html, securityPolicy } from "./page.ts"
import { snapshot } from "./snapshot.ts"

/** Where the page is served. */
export interface AdminOptions {
  /** 0: a free one. Default 9990, where Finagle's and Twitter's servers have theirs. */
  readonly port?: number | undefined
  /**
   * The address of an interface. Default `127.0.0.1`: the page tells what a program calls and how it fares, so whoever can reach it knows. On
   * another interface it answers requests that name an address, or this: put what asks who is there in front of it.
   */
  readonly host?: string | undefined
}

interface Answer {
  readonly status: number
  readonly type: string
  readonly body: string
  readonly headers?: Readonly<Record<string, string>>
}

const plain = (status: number, body: string, headers: Readonly<Record<string, string>> = {}): Answer => ({
  status,
  type: "text/plain; charset=utf-8",
  body,
  headers
})

/** The name that a request asks for, without the port. */
const nameOf = (host: string | undefined): string => (host ?? "").replace(/:\d+$/, "").toLowerCase()

/** Whether it names the loopback: a page elsewhere that resolves its own name to here does not. */
const isLocal = (name: string): boolean =>
  name === "localhost" || name === "[::1]" || (Net.isIPv4(name) && name.startsWith("127."))

/** Whether it is an address: a name may be made to lead anywhere, an address leads where it says. */
const isAddress = (name: string): boolean => Net.isIPv4(name) || Net.isIPv6(name.replace(/^\[|\]$/g, ""))

/** Whether an address that is listened on is of the loopback. */
const isLoopback = (address: string): boolean => address === "::1" || /^(::ffff:)?127\./.test(address)

/** How old the data may be that is given out: several who look at once do not cost more than one. */
const sharedMillis = 500

/** The paths, and what each is answered with. */
const pageOf = (stacks: typeof Stacks.Service, context: Context.Context<never>) => {
  const clock = Context.get(context, Clock.Clock)
  /** Made when it is asked for, and kept for those who ask just after. */
  const shared = (make: (at: number) => string) => {
    let made = ""
    let madeAt = -Infinity
    return () => {
      const at = clock.currentTimeMillisUnsafe()
      if (at - madeAt >= sharedMillis || at < madeAt) {
        made = make(at)
        madeAt = at
      }
      return made
    }
  }
  const json = shared((at) => JSON.stringify(snapshot(stacks, at)))
  const text = shared((at) => {
    const { clients, servers } = snapshot(stacks, at)
    return `${[...clients, ...servers].map(Describe.render).join("\n\n")}\n`
  })
  return {
    "/": (): Answer => ({
      status: 200,
      type: "text/html; charset=utf-8",
      body: html,
      headers: { "content-security-policy": securityPolicy }
    }),
    "/stacks.json": (): Answer => ({ status: 200, type: "application/json", body: json() }),
    "/stacks.txt": (): Answer => plain(200, text()),
    "/metrics": (): Answer => ({
      status: 200,
      type: "text/plain; version=0.0.4; charset=utf-8",
      body: PrometheusMetrics.formatUnsafe(context)
    })
  }
}

/** What a request is answered with. */
const answerTo = (
  request: Http.IncomingMessage,
  mayAsk: (name: string) => boolean,
  page: Readonly<Record<string, () => Answer>>
): Answer => {
  if (request.method !== "GET" && request.method !== "HEAD") {
    return plain(405, "this page reads only: GET and HEAD\n", { allow: "GET, HEAD" })
  }
  if (!mayAsk(nameOf(request.headers.host))) {
    return plain(421, "ask for the address that this page is served on, or for localhost\n")
  }
  const path = request.url!.replace(/[?#].*$/s, "")
  return Object.hasOwn(page, path) ? page[path]!() : plain(404, "/, /stacks.json, /stacks.txt or /metrics\n")
}

/** Where the page is. */
export class Admin extends Context.Service<Admin, {
  /** `http://127.0.0.1:9990`. */
  readonly url: string
}>()("@scales-rpc/admin/Admin") {
  /**
   * Serves the page as long as the layer lives, and provides the directory that clients and servers show up in: those that are built over this layer, or
   * over a `Stacks` that this layer is built over too.
   *
   *     EchoLive.pipe(Layer.provideMerge(Admin.layer({ port: 9990 })))
   *
   * `/` is the page, `/stacks.json` its data, `/stacks.txt` the same as text, `/metrics` the metrics of the program as Prometheus reads them. Fails with
   * `ListenFailed` when the port is taken, and `InvalidOption` when it is none.
   */
  static readonly layer = (options: AdminOptions = {}): Layer.Layer<Admin | Stacks, InvalidOption | ListenFailed> =>
    Layer.effectContext(Effect.gen(function*() {
      const port = yield* wholeNumber("port", options.port, 9990, 0, 65535)
      const host = options.host ?? "127.0.0.1"
      const context = yield* Effect.context<never>()
      const given = yield* Effect.serviceOption(Stacks)
      const stacks = Option.isSome(given) ? given.value : Context.get(yield* Layer.build(Stacks.layer), Stacks)
      const page = pageOf(stacks, context)
      const server = yield* Effect.acquireRelease(
        Effect.callback<Http.Server, ListenFailed>((resume) => {
          // What a browser keeps open, and what somebody keeps from ending, is bounded.
          const server = Http.createServer({ headersTimeout: 5000, requestTimeout: 10_000, keepAliveTimeout: 5000 })
          server.maxConnections = 64
          server.on(
            "error",
            (cause) => resume(Effect.fail(new ListenFailed({ address: addressOf(host, port), cause })))
          )
          server.listen({ host, port }, () => resume(Effect.succeed(server)))
          return Effect.sync(() => void server.close())
        }),
        (server) =>
          Effect.callback<void>((resume) => {
            server.close(() => resume(Effect.void))
            server.closeAllConnections()
          })
      )
      const at = server.address() as Net.AddressInfo
      const mayAsk = isLoopback(at.address)
        ? isLocal
        : (name: string) => isLocal(name) || isAddress(name) || name === host.toLowerCase()
      server.on("request", (request: Http.IncomingMessage, response: Http.ServerResponse) => {
        let answer: Answer
        try {
          answer = answerTo(request, mayAsk, page)
        } catch (error) {
          answer = plain(500, `${error instanceof Error ? error.message : "this cannot be shown"}\n`)
        }
        response.writeHead(answer.status, {
          "content-type": answer.type,
          "content-length": Buffer.byteLength(answer.body),
          "cache-control": "no-store",
          "x-content-type-options": "nosniff",
          "referrer-policy": "no-referrer",
          ...answer.headers
        })
        response.end(request.method === "HEAD" ? undefined : answer.body)
        // A body, which nothing here wants.
        request.resume()
      })
      const url = `http://${addressOf(at.address, at.port)}`
      yield* Effect.annotateLogs(Effect.logInfo("admin page is served"), { url })
      return Context.make(Admin, Admin.of({ url })).pipe(Context.add(Stacks, stacks))
    }))
}

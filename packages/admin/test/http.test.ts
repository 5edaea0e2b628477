/** What the page's server answers, and to whom. */
import { Admin, type Page } from "@scales-rpc/admin"
import { InvalidOption, Observed, Stacks } from "@scales-rpc/core"
import { Deadlines } from "@scales-rpc/core"
import { ListenFailed } from "@scales-rpc/core/socket"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Logger } from "effect"
import Http from "node:http"
import Net from "node:net"
import { program, uriOf } from "./support.ts"

interface Answer {
  readonly status: number
  readonly headers: Http.IncomingHttpHeaders
  readonly body: string
}

/** One request, on a connection of its own. */
const ask = (url: string, options: Http.RequestOptions = {}): Effect.Effect<Answer> =>
  Effect.callback((resume) => {
    const request = Http.request(url, { agent: false, ...options }, (response) => {
      let body = ""
      response.setEncoding("utf8")
      response.on("data", (text: string) => {
        body += text
      })
      response.on(
        "end",
        () => resume(Effect.succeed({ status: response.statusCode!, headers: response.headers, body }))
      )
    })
    request.on("error", (error) => resume(Effect.die(error)))
    request.end()
  })

const json = (url: string): Effect.Effect<Page> => Effect.map(ask(`${url}/stacks.json`), ({ body }) => JSON.parse(body))

/** What keeps a page from being served at a port. */
const fails = (port: number): Effect.Effect<unknown> =>
  Layer.build(Admin.layer({ port })).pipe(
    Effect.scoped,
    Effect.provide(Logger.layer([])),
    Effect.match({ onFailure: (error): unknown => error, onSuccess: () => "served" })
  )

describe("the page's server", () => {
  it.live("answers with the page, its data, the same as text, and metrics", () =>
    program(({ client, server, url }) =>
      Effect.gen(function*() {
        const { uri } = yield* server()
        const echo = yield* client(uri, { label: "users" })
        for (let i = 0; i < 3; i++) yield* Effect.orDie(echo.ping())

        const page = yield* ask(`${url}/`)
        assert.strictEqual(page.status, 200)
        assert.match(page.headers["content-type"]!, /^text\/html/)
        assert.match(String(page.headers["content-security-policy"]), /^default-src 'none'; style-src 'sha256-/)
        assert.match(page.body, /<title>Scales<\/title>/)

        const { clients, servers } = yield* json(url)
        assert.deepStrictEqual(clients.map(({ id, kind }) => [kind, id]), [["client", "users"]])
        assert.deepStrictEqual(servers.map(({ kind }) => kind), ["server"])
        const dispatcher = clients[0]!.stages.find(({ role }) => role === "dispatcher")!
        assert.strictEqual((dispatcher.state as { calls: number }).calls, 3)

        const text = yield* ask(`${url}/stacks.txt`)
        assert.match(text.body, /^client users\n(?:.*\n)*dispatcher: /)

        const metrics = yield* ask(`${url}/metrics?x=1`)
        assert.strictEqual(metrics.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8")
        assert.match(metrics.body, /^scales_call_requests\{.*method="ping".*\} 3$/m)
      })
    ))

  it.live("reads only, and says where things are", () =>
    program(({ url }) =>
      Effect.gen(function*() {
        for (const method of ["POST", "PUT", "DELETE", "OPTIONS"]) {
          const refused = yield* ask(`${url}/`, { method })
          assert.deepStrictEqual([refused.status, refused.headers.allow], [405, "GET, HEAD"])
        }
        const head = yield* ask(`${url}/`, { method: "HEAD" })
        assert.deepStrictEqual([head.status, head.body], [200, ""])
        assert.isAbove(Number(head.headers["content-length"]), 1000)
        const elsewhere = yield* ask(`${url}/favicon.ico`)
        assert.deepStrictEqual([elsewhere.status, elsewhere.body], [404, "/, /stacks.json, /stacks.txt or /metrics\n"])
      })
    ))

  it.live("answers on every other interface who asks for an address, or for the host it was given", () =>
    Effect.gen(function*() {
      for (const host of ["0.0.0.0", "::"]) {
        const url = Context.get(yield* Layer.build(Admin.layer({ port: 0, host })), Admin).url
        const { port } = new URL(url)
        const status = (name: string) =>
          Effect.map(ask(`http://127.0.0.1:${port}/stacks.json`, { headers: { host: name } }), ({ status }) => status)
        assert.strictEqual(yield* status(`10.1.2.3:${port}`), 200)
        assert.strictEqual(yield* status(`[fe80::1]:${port}`), 200)
        assert.strictEqual(yield* status("localhost"), 200)
        assert.strictEqual(yield* status("evil.example"), 421)
      }
    }).pipe(Effect.scoped, Effect.provide(Logger.layer([]))))

  for (const host of ["LOCALHOST", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1"]) {
    it.live(`knows the loopback by any of its names: ${host}`, () =>
      Effect.gen(function*() {
        const { port } = new URL(Context.get(yield* Layer.build(Admin.layer({ port: 0, host })), Admin).url)
        const url = `http://${
          host === "LOCALHOST" ? "localhost" : host.startsWith("0") ? "[::1]" : "127.0.0.1"
        }:${port}/stacks.json`
        assert.strictEqual((yield* ask(url, { headers: { host: "evil.example" } })).status, 421)
        assert.strictEqual((yield* ask(url)).status, 200)
      }).pipe(Effect.scoped, Effect.provide(Logger.layer([]))))
  }

  it.live("on the loopback interface answers only who asks for it by name: another site's name may lead here", () =>
    program(({ url }) =>
      Effect.gen(function*() {
        const port = new URL(url).port
        for (
          const host of [`localhost:${port}`, `LOCALHOST:${port}`, `127.0.0.1:${port}`, "127.1.2.3", `[::1]:${port}`]
        ) {
          assert.strictEqual((yield* ask(`${url}/stacks.json`, { headers: { host } })).status, 200, host)
        }
        for (
          const host of ["evil.example", `evil.example:${port}`, "localhost.evil.example", "127.0.0.1.evil.example"]
        ) {
          const refused = yield* ask(`${url}/stacks.json`, { headers: { host } })
          assert.strictEqual(refused.status, 421, host)
          assert.notMatch(refused.body, /clients/)
        }
      })
    ))

  it.live("shows of a set of thousands those that are not well, and says how many there are besides", () =>
    program(({ client, url }) =>
      Effect.gen(function*() {
        const down = Array.from({ length: 300 }, (_, i) => `tcp://127.0.0.${2 + (i >> 8)}:${1 + (i & 255)}`)
        const echo = yield* client(uriOf(...down))
        yield* Effect.ignore(echo.ping())
        const { clients: [big] } = yield* json(url)
        const { endpoints, endpointsLeftOut, size } = big!.stages.find(({ role }) => role === "balancer")!.state as {
          readonly endpoints: ReadonlyArray<{ readonly state: string }>
          readonly endpointsLeftOut: number
          readonly size: number
        }
        assert.deepStrictEqual([endpoints.length, endpointsLeftOut, size], [200, 100, 300])
        assert.strictEqual(endpoints[0]!.state, "Closed")
      })
    ))

  it.live("answers when a stage cannot be read, and says so", () =>
    Effect.gen(function*() {
      const deadlines = new Deadlines({ currentTimeMillisUnsafe: () => 0 } as never, () => () => {})
      const server = yield* Observed.make("server", "broken", deadlines, false)
      yield* server.register({
        role: "mine",
        description: "throws",
        options: {},
        snapshot: () => {
          throw new Error("not now")
        }
      })
      const context = yield* Layer.build(Admin.layer({ port: 0 }))
      yield* Context.get(context, Stacks).addServer(server)
      const answer = yield* ask(`${Context.get(context, Admin).url}/stacks.json`)
      assert.strictEqual(answer.status, 200)
      assert.match(answer.body, /not now/)
    }).pipe(Effect.scoped, Effect.provide(Logger.layer([]))))

  it.live("shows what is built over a directory that it is built over too", () =>
    Effect.gen(function*() {
      const context = yield* Layer.build(Layer.provideMerge(Admin.layer({ port: 0 }), Stacks.layer))
      const directory = Context.get(context, Stacks)
      const deadlines = new Deadlines({ currentTimeMillisUnsafe: () => 0 } as never, () => () => {})
      yield* Effect.scoped(Effect.gen(function*() {
        yield* directory.addServer(yield* Observed.make("server", "early", deadlines, false))
        assert.deepStrictEqual((yield* json(Context.get(context, Admin).url)).servers.map(({ id }) => id), ["early"])
      }))
      // What is asked for just after is what was made just before.
      const { url } = Context.get(context, Admin)
      while ((yield* json(url)).servers.length > 0) yield* Effect.sleep("50 millis")
    }).pipe(Effect.scoped, Effect.provide(Logger.layer([]))))

  it.live("is gone with its layer, and with it connections that were kept open", () =>
    Effect.gen(function*() {
      const socket = yield* program(({ url }) =>
        Effect.callback<Net.Socket>((resume) => {
          const { hostname, port } = new URL(url)
          const socket = Net.connect(
            Number(port),
            hostname,
            () => socket.write("GET /stacks.json HTTP/1.1\r\nhost: localhost\r\n\r\n")
          )
          socket.once("data", () => resume(Effect.succeed(socket)))
        })
      )
      yield* Effect.callback<void>((resume) => {
        if (socket.closed) return resume(Effect.void)
        socket.on("error", () => {})
        socket.once("close", () => resume(Effect.void))
        socket.resume()
      })
    }))

  it.live("fails with a typed error when the port is taken, or none", () =>
    Effect.gen(function*() {
      const taken = yield* program(({ url }) => fails(Number(new URL(url).port)))
      assert.instanceOf(taken, ListenFailed)
      assert.match(taken.message, /^cannot listen on 127\.0\.0\.1:\d+: .*EADDRINUSE/)
      const none = yield* fails(70_000)
      assert.instanceOf(none, InvalidOption)
      assert.match(none.message, /port/)
    }))
})

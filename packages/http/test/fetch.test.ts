// `fetch` over the stack: what code that knows only the global one gets, over real servers.
import { describe as described, Stacks, type StackShape } from "@scales-rpc/core"
import { Seed } from "@scales-rpc/core/testing"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Fiber, Layer, Scope } from "effect"
import { inspect } from "node:util"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { Fetch, FetchFailed, FetchUnsupported, ForeignUrl, type InvalidRequest } from "../src/index.ts"
import { echo, listen } from "./nodeServer.ts"
import * as Raw from "./raw.ts"
import { start, until } from "./support.ts"

type Options = Omit<Fetch.FetchOptions, "uri">

/** A `fetch`, and its stack. */
const open = (uri: string, options: Options = {}) =>
  Effect.map(
    Layer.build(
      Layer.provideMerge(Fetch.layer({ name: "users", ...options, uri }), Stacks.layer).pipe(
        Layer.provide(Seed.layer(1))
      )
    ),
    (context) => ({ fetch: Context.get(context, Fetch.Fetch), stack: Context.get(context, Stacks).list()[0]! })
  )

const serving = (handler: Parameters<typeof listen>[0], options: Options = {}) =>
  Effect.flatMap(listen(handler), (server) => Effect.map(open(server.uri, options), (made) => ({ ...made, server })))

/** Attempts that count as load. */
const load = (stack: StackShape): number =>
  (described(stack).stages.find(({ role }) => role === "balancer")!.state as { readonly load: number }).load

interface Echoed {
  readonly method: string
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** What a request that is answered in JSON was. */
const echoed = (response: Promise<Response>): Effect.Effect<Echoed> =>
  Effect.promise(async () => await (await response).json() as Echoed)

const settle = <A>(promise: Promise<A>): Effect.Effect<A> => Effect.promise(() => promise)

/** What a promise rejects with. */
const rejection = (promise: Promise<unknown>): Effect.Effect<unknown> =>
  Effect.promise(() => promise.then((value) => assert.fail(inspect(value)), (reason: unknown) => reason))

/** What it failed with, below what every `fetch` fails with. */
const told = (error: unknown): unknown => {
  assert.instanceOf(error, FetchFailed)
  assert.instanceOf(error, TypeError)
  assert.deepStrictEqual([error.name, error.message, error._tag], ["TypeError", "fetch failed", "FetchFailed"])
  return (error.cause as { readonly _tag?: string })._tag ?? (error.cause as Error).message
}

describe("a request", () => {
  it.live("is of the method, the URL, the headers and the body that it is given", () =>
    Effect.gen(function*() {
      const { fetch } = yield* serving(echo)
      for (const url of ["http://users/a?b=1#c", "/a?b=1", "a?b=1", new URL("http://users/a?b=1")]) {
        const sent = yield* echoed(fetch(url))
        assert.deepStrictEqual([sent.method, sent.headers["host"], sent.url], ["GET", "users", "/a?b=1"])
      }
      const posted = yield* echoed(fetch("/", { method: "post", headers: { "X-A": "1" }, body: "h\u00e9" }))
      assert.deepInclude(posted, { method: "POST", body: "h\u00e9" })
      assert.deepInclude(posted.headers, {
        "x-a": "1",
        "content-type": "text/plain;charset=UTF-8",
        "content-length": "3"
      })
      const form = yield* echoed(fetch("/", { method: "POST", body: new URLSearchParams({ a: "b c" }) }))
      assert.deepStrictEqual([form.headers["content-type"], form.body], [
        "application/x-www-form-urlencoded;charset=UTF-8",
        "a=b+c"
      ])
      const request = new Request("http://users/r", { method: "PUT", body: "whole", headers: { "x-a": "1" } })
      const sent = yield* echoed(fetch(request, { headers: { "x-a": "2" } }))
      assert.deepStrictEqual([sent.method, sent.url, sent.headers["x-a"], sent.body], ["PUT", "/r", "2", "whole"])
    }))

  it.live("has a stream as its body, if it says so as it has to", () =>
    Effect.gen(function*() {
      const { fetch } = yield* serving(echo)
      const body = () => new Blob(["a", "b"]).stream()
      const sent = yield* echoed(fetch("/", { method: "POST", body: body(), duplex: "half" }))
      assert.deepStrictEqual([sent.body, sent.headers["transfer-encoding"]], ["ab", "chunked"])
      const known = yield* echoed(
        fetch("/", { method: "POST", body: body(), duplex: "half", headers: { "content-length": "2" } })
      )
      assert.deepStrictEqual([known.body, known.headers["content-length"]], ["ab", "2"])
      assert.instanceOf(yield* rejection(fetch("/", { method: "POST", body: body() } as RequestInit)), TypeError)
      const failing = new ReadableStream({ pull: () => Promise.reject(new Error("disk")) })
      const error = yield* rejection(fetch("/", { method: "POST", body: failing, duplex: "half" }))
      assert.strictEqual(told(error), "RequestBodyFailed")
    }))

  it.live("that any fetch refuses is refused", () =>
    Effect.gen(function*() {
      const { fetch, server } = yield* serving(echo)
      for (
        const failing of [
          fetch("http://[/"),
          fetch("/", { ...{ method: "GET" }, body: "x" }),
          fetch("/", { method: "CONNECT" }),
          fetch("/", { headers: { "a b": "1" } }),
          fetch("http://ada:secret@users/")
        ]
      ) assert.instanceOf(yield* rejection(failing), TypeError)
      assert.strictEqual(server.accepted(), 0)
    }))

  it.live("to another host is sent to nobody", () =>
    Effect.gen(function*() {
      const { fetch, server } = yield* serving(echo)
      for (const url of ["http://other/", "//other/", "https://users/", "data:,x", "blob:users"]) {
        const error = yield* rejection(fetch(url, { headers: { authorization: "secret" } }))
        assert.strictEqual(told(error), "ForeignUrl")
        assert.instanceOf((error as Error).cause, ForeignUrl)
        assert.notInclude(inspect(error, { depth: 9 }), "secret")
      }
      assert.strictEqual(server.accepted(), 0)
    }))

  it.live("that HTTP does not allow is not sent", () =>
    Effect.gen(function*() {
      const { fetch } = yield* serving(echo)
      const error = yield* rejection(fetch("/", { headers: { expect: "100-continue", authorization: "secret" } }))
      assert.strictEqual(told(error), "InvalidRequest")
      assert.deepInclude((error as Error).cause as InvalidRequest, { part: "header", name: "expect" })
      assert.notInclude(inspect(error, { depth: 9 }), "secret")
    }))

  const refused: ReadonlyArray<readonly [part: string, init: RequestInit]> = [
    ["integrity", { integrity: "sha256-x" }],
    ["cache", { cache: "force-cache" }],
    ["cache", { cache: "only-if-cached", mode: "same-origin" }],
    ["mode", { mode: "no-cors" }],
    ["referrer", { referrer: "http://users/from" }],
    ["dispatcher", { dispatcher: {} } as RequestInit]
  ]
  for (const [part, init] of refused) {
    it.live(`with ${inspect(init)} is for another fetch, and is not sent`, () =>
      Effect.gen(function*() {
        const { fetch, server } = yield* serving(echo)
        const error = yield* rejection(fetch("/", init))
        assert.instanceOf(error, FetchUnsupported)
        assert.instanceOf(error, TypeError)
        assert.deepInclude(error, { _tag: "FetchUnsupported", part })
        assert.strictEqual(server.accepted(), 0)
      }))
  }

  it.live("takes what has no meaning outside of a browser for nothing", () =>
    Effect.gen(function*() {
      const { fetch } = yield* serving(echo)
      const sent = echoed(
        fetch("/", {
          credentials: "include",
          mode: "cors",
          keepalive: true,
          cache: "no-store",
          referrerPolicy: "origin"
        })
      )
      assert.deepStrictEqual(Object.keys((yield* sent).headers).toSorted(), ["connection", "host"])
    }))
})

describe("a response", () => {
  it.live("is one of the platform's", () =>
    Effect.gen(function*() {
      const { fetch } = yield* serving((_, response) => {
        response.writeHead(
          404,
          "Nowhere",
          [["X-A", "1"], ["x-a", "2"], ["set-cookie", "a=1"], ["set-cookie", "b=2"]] as any
        )
        response.end(`{"a":1}`)
      })
      const response = yield* settle(fetch("/a?b#c"))
      assert.instanceOf(response, Response)
      assert.deepInclude(
        {
          ok: response.ok,
          status: response.status,
          text: response.statusText,
          url: response.url,
          to: response.redirected
        },
        { ok: false, status: 404, text: "Nowhere", url: "http://users/a?b", to: false }
      )
      assert.strictEqual(response.headers.get("x-a"), "1, 2")
      assert.deepStrictEqual(response.headers.getSetCookie(), ["a=1", "b=2"])
      const copy = response.clone()
      assert.deepStrictEqual([copy.url, copy.status], ["http://users/a?b", 404])
      assert.deepStrictEqual(yield* settle(response.json()), { a: 1 })
      assert.strictEqual(yield* settle(copy.text()), `{"a":1}`)
      assert.isTrue(response.bodyUsed)
    }))

  for (const status of [204, 205, 304]) {
    it.live(`of ${status} has no body`, () =>
      Effect.gen(function*() {
        const { fetch, stack } = yield* serving((_, response) => void response.writeHead(status).end())
        const response = yield* settle(fetch("/"))
        assert.deepStrictEqual([response.status, response.body], [status, null])
        yield* until("it has ended", () => load(stack) === 0)
      }))
  }

  it.live("to HEAD has no body", () =>
    Effect.gen(function*() {
      const { fetch, stack } = yield* serving((_, response) => {
        response.writeHead(200, { "content-length": 9 }).end()
      })
      const response = yield* settle(fetch("/", { method: "HEAD" }))
      assert.deepStrictEqual([response.headers.get("content-length"), response.body], ["9", null])
      assert.strictEqual(load(stack), 0)
    }))

  it.live("is read as it comes, with a buffer of the reader's too", () =>
    Effect.gen(function*() {
      const peer = yield* Raw.listen
      const { fetch, stack } = yield* open(`tcp://127.0.0.1:${peer.port}`)
      const calling = fetch("/")
      const server = yield* peer.accept
      yield* server.request
      server.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n")
      const reader = (yield* settle(calling)).body!.getReader({ mode: "byob" })
      const read = (size: number) =>
        Effect.map(
          settle(reader.read(new Uint8Array(size))),
          ({ done, value }) => [done, Buffer.from(value!).toString()]
        )
      assert.deepStrictEqual(yield* read(1), [false, "a"])
      assert.deepStrictEqual(yield* read(10), [false, "b"])
      assert.strictEqual(load(stack), 1)
      const last = yield* start(read(10))
      server.write("0\r\n\r\n")
      assert.deepStrictEqual(yield* Fiber.join(last), [true, ""])
      assert.strictEqual(load(stack), 0)
    }))

  for (const [head, kind] of [["600 Odd", RangeError], ["799 Odd", RangeError], ["200 \u2713", TypeError]] as const) {
    it.live(`of ${head}, which the platform cannot have, fails, and frees its connection`, () =>
      Effect.gen(function*() {
        const peer = yield* Raw.listen
        const { fetch, stack } = yield* open(`tcp://127.0.0.1:${peer.port}`)
        const calling = rejection(fetch("/"))
        const server = yield* Effect.andThen(start(calling), peer.accept)
        yield* server.request
        server.socket.write(`HTTP/1.1 ${head}\r\ncontent-length: 5\r\n\r\nab`)
        const error = yield* calling
        assert.instanceOf(error, FetchFailed)
        assert.instanceOf(error.cause, kind)
        assert.strictEqual(load(stack), 0)
        yield* server.ended
      }))
  }

  it.live("that is left frees its connection", () =>
    Effect.gen(function*() {
      const { fetch, server, stack } = yield* serving((_, response) => void response.end(Buffer.alloc(1_000_000)))
      const response = yield* settle(fetch("/"))
      assert.strictEqual(load(stack), 1)
      yield* settle(response.body!.cancel())
      assert.strictEqual(load(stack), 0)
      yield* until("its connection has ended", () => server.open() === 0)
    }))

  it.live("that breaks fails whoever reads it", () =>
    Effect.gen(function*() {
      const { fetch } = yield* serving((_, response) => {
        response.writeHead(200, { "content-length": 9 }).write("a", () => response.destroy())
      })
      const response = yield* settle(fetch("/"))
      assert.strictEqual(told(yield* rejection(response.text())), "ConnectionClosed")
    }))

  it.live("with a coding that nobody asked for is not taken for text", () =>
    Effect.gen(function*() {
      const { fetch, stack } = yield* serving((_, response) => {
        response.writeHead(200, { "content-encoding": "gzip" }).end(Buffer.alloc(500_000))
      })
      const error = yield* rejection(fetch("/"))
      assert.instanceOf(error, FetchUnsupported)
      assert.strictEqual(error.part, "content-encoding")
      assert.strictEqual(load(stack), 0)
      const asked = yield* settle(fetch("/", { headers: { "accept-encoding": "gzip" } }))
      assert.strictEqual((yield* settle(asked.arrayBuffer())).byteLength, 500_000)
    }))
})

describe("a redirect", () => {
  const other = listen(echo)
  const moving = (options: Options = {}) =>
    serving((request, response) => {
      const { pathname, searchParams } = new URL(request.url!, "http://users")
      if (pathname !== "/from") return echo(request, response)
      request.resume()
      response.writeHead(Number(searchParams.get("status")), { location: searchParams.get("to")! }).end("moved")
    }, options)
  const from = (status: number, to: string) => `/from?status=${status}&to=${encodeURIComponent(to)}`

  it.live("is a response unless one asks for more", () =>
    Effect.gen(function*() {
      const { fetch } = yield* moving()
      for (const init of [undefined, { redirect: "manual" as const }]) {
        const response = yield* settle(fetch(from(302, "/to"), init))
        assert.deepStrictEqual([response.status, response.headers.get("location")], [302, "/to"])
        assert.strictEqual(yield* settle(response.text()), "moved")
      }
      const request = new Request("http://users" + from(302, "/to"))
      assert.strictEqual((yield* settle(fetch(request))).status, 302)
      assert.strictEqual(told(yield* rejection(fetch(from(302, "/to"), { redirect: "error" }))), "unexpected redirect")
      assert.strictEqual(
        told(yield* rejection(fetch(new Request(request, { redirect: "error" })))),
        "unexpected redirect"
      )
    }))

  const sent = [
    [301, "POST", "GET"],
    [302, "POST", "GET"],
    [303, "PUT", "GET"],
    [301, "PUT", "PUT"],
    [307, "POST", "POST"],
    [308, "POST", "POST"]
  ] as const
  for (const [status, method, then] of sent) {
    it.live(`of ${status} makes ${then} of ${method} when it is followed`, () =>
      Effect.gen(function*() {
        const { fetch } = yield* moving()
        const headers = { authorization: "Bearer a", "content-type": "a/b", "x-a": "1" }
        const response = yield* settle(
          fetch(from(status, "../to?x"), { method, headers, body: "b", redirect: "follow" })
        )
        assert.deepStrictEqual([response.url, response.redirected], ["http://users/to?x", true])
        const sent = yield* settle(response.json() as Promise<Echoed>)
        assert.deepStrictEqual([sent.method, sent.body, sent.url], [then, then === "GET" ? "" : "b", "/to?x"])
        assert.deepInclude(sent.headers, { authorization: "Bearer a", "x-a": "1" })
        assert.strictEqual(sent.headers["content-type"], then === "GET" ? undefined : "a/b")
      }))
  }

  it.live("of GET to HEAD stays HEAD, and one without a place is a response", () =>
    Effect.gen(function*() {
      const { fetch } = yield* serving((request, response) => {
        if (request.url === "/from") response.setHeader("location", "/to")
        response.writeHead(request.url === "/to" ? 200 : 303, { "x-method": request.method! }).end()
      })
      const head = yield* settle(fetch("/from", { method: "HEAD", redirect: "follow" }))
      assert.deepStrictEqual([head.status, head.headers.get("x-method")], [200, "HEAD"])
      assert.strictEqual((yield* settle(fetch("/nowhere", { redirect: "follow" }))).status, 303)
    }))

  it.live("to another host takes nothing there", () =>
    Effect.gen(function*() {
      const { fetch } = yield* moving()
      const { accepted, port } = yield* other
      for (const to of [`http://127.0.0.1:${port}/`, `//127.0.0.1:${port}/`, "https://users/", "ftp://users/"]) {
        const error = yield* rejection(
          fetch(from(302, to), { redirect: "follow", headers: { authorization: "Bearer secret", cookie: "secret" } })
        )
        assert.strictEqual(told(error), "ForeignUrl")
        assert.notInclude(inspect(error, { depth: 9 }), "secret")
      }
      assert.strictEqual(told(yield* rejection(fetch(from(302, "http://["), { redirect: "follow" }))), "Invalid URL")
      assert.strictEqual(accepted(), 0)
    }))

  it.live("without an end is given up", () =>
    Effect.gen(function*() {
      let requests = 0
      const { fetch, server } = yield* serving((_, response) => {
        requests++
        response.writeHead(302, { location: "/" }).end("moved")
      })
      assert.strictEqual(told(yield* rejection(fetch("/", { redirect: "follow" }))), "too many redirects")
      assert.deepStrictEqual([requests, server.accepted()], [21, 1])
    }))

  it.live("takes no stream along", () =>
    Effect.gen(function*() {
      const { fetch } = yield* moving()
      const body = () => new Blob(["a"]).stream()
      const init = () => ({ method: "POST", body: body(), duplex: "half", redirect: "follow" }) as const
      const error = yield* rejection(fetch(from(307, "/to"), init()))
      assert.deepInclude(error, { _tag: "FetchUnsupported", part: "redirect" })
      assert.deepInclude(yield* echoed(fetch(from(303, "/to"), init())), { method: "GET", url: "/to" })
    }))
})

describe("an AbortSignal", () => {
  it.live("rejects with its reason, before the request, during it and while the body is read", () =>
    Effect.gen(function*() {
      const peer = yield* Raw.listen
      const { fetch, stack } = yield* open(`tcp://127.0.0.1:${peer.port}`)
      const gone = new Error("gone")
      assert.strictEqual(yield* rejection(fetch("/", { signal: AbortSignal.abort(gone) })), gone)
      assert.strictEqual(peer.accepted(), 0)

      const first = new AbortController()
      const waiting = rejection(fetch("/", { signal: first.signal }))
      const server = yield* Effect.andThen(start(waiting), peer.accept)
      yield* server.request
      first.abort()
      assert.strictEqual(((yield* waiting) as DOMException).name, "AbortError")
      yield* server.ended

      const second = new AbortController()
      const calling = fetch("/", { signal: second.signal })
      const next = yield* peer.accept
      yield* next.request
      next.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\na")
      const response = yield* settle(calling)
      const reading = yield* start(rejection(response.text()))
      assert.strictEqual(load(stack), 1)
      second.abort(gone)
      assert.strictEqual(yield* Fiber.join(reading), gone)
      assert.strictEqual(load(stack), 0)
      yield* next.ended
    }))

  /** Collects what nobody has; of what is held weakly in one turn, only a later one can. */
  const collected = Effect.promise(async () => {
    setFlagsFromString("--expose-gc")
    const collect: () => void = runInNewContext("gc")
    for (let i = 0; i < 10; i++) {
      collect()
      await new Promise(setImmediate)
    }
  })
  const arguments_: ReadonlyArray<readonly [string, (signal: AbortSignal) => Parameters<typeof globalThis.fetch>]> = [
    ["a second argument", (signal) => ["/", { signal }]],
    ["a Request", (signal) => [new Request("http://users/", { signal })]],
    ["a Request with another on top", (signal) => [new Request("http://users/", { signal }), { headers: { a: "b" } }]]
  ]
  for (const [where, argumentsOf] of arguments_) {
    it.live(`of ${where} is heard after a garbage collection, before the head and behind it`, () =>
      Effect.gen(function*() {
        const peer = yield* Raw.listen
        const { fetch, stack } = yield* open(`tcp://127.0.0.1:${peer.port}`)
        const gone = new Error("gone")
        for (const head of ["", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\na"]) {
          const controller = new AbortController()
          const calling = fetch(...argumentsOf(controller.signal))
          const failing = rejection(head === "" ? calling : calling.then((response) => response.text()))
          const server = yield* Effect.andThen(start(failing), peer.accept)
          yield* server.request
          server.write(head)
          if (head !== "") yield* settle(Promise.resolve(calling).then(() => {}))
          yield* collected
          assert.strictEqual(load(stack), 1)
          controller.abort(gone)
          assert.strictEqual(yield* failing, gone)
          assert.strictEqual(load(stack), 0)
          yield* server.ended
        }
      }))
  }

  it.live("frees the connection of a response that nobody has any more, after a garbage collection too", () =>
    Effect.gen(function*() {
      const peer = yield* Raw.listen
      const { fetch, stack } = yield* open(`tcp://127.0.0.1:${peer.port}`)
      const controller = new AbortController()
      const calling = yield* start(settle(fetch("/", { signal: controller.signal }).then(() => {})))
      const server = yield* peer.accept
      yield* server.request
      server.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\na")
      yield* Fiber.join(calling)
      yield* collected
      controller.abort()
      yield* server.ended
      assert.strictEqual(load(stack), 0)
    }))
})

describe("a fetch of its own", () => {
  it.live("is built by its first call, and closes when it is told to", () =>
    Effect.gen(function*() {
      const { accepted, uri } = yield* listen(echo)
      const { close, fetch } = Fetch.make(Fetch.layer({ uri, name: "users" }))
      assert.strictEqual(accepted(), 0)
      const shared: typeof globalThis.fetch = fetch
      assert.strictEqual((yield* echoed(shared("/a"))).url, "/a")
      const [once, twice] = [close(), close()]
      yield* settle(Promise.all([once, twice]))
      assert.strictEqual(told(yield* rejection(fetch("/a"))), "StackClosed")
    }))

  it.live("says in every call why it could not be built", () =>
    Effect.gen(function*() {
      const { close, fetch } = Fetch.make(Fetch.layer({ uri: "nowhere://a" }))
      for (let i = 0; i < 2; i++) assert.strictEqual(told(yield* rejection(fetch("/"))), "UnknownScheme")
      yield* settle(close())
    }))
})

it.live("closing waits for what is outstanding, and refuses what comes after", () =>
  Effect.gen(function*() {
    const peer = yield* Raw.listen
    const scope = yield* Scope.make()
    const { fetch } = yield* Effect.provideService(open(`tcp://127.0.0.1:${peer.port}`), Scope.Scope, scope)
    const calling = fetch("/")
    const server = yield* peer.accept
    yield* server.request
    const closing = yield* start(Scope.close(scope, Exit.void))
    assert.strictEqual(told(yield* rejection(fetch("/"))), "StackClosed")
    server.write(Raw.ok("done"))
    assert.strictEqual(yield* settle(calling.then((response) => response.text())), "done")
    yield* Fiber.join(closing)
  }))

it.live("a deadline rejects with Timeout, body included", () =>
  Effect.gen(function*() {
    const { fetch } = yield* serving((request, response) => {
      if (request.url === "/body") response.write("a")
    }, { timeout: "300 millis" })
    assert.strictEqual(told(yield* rejection(fetch("/"))), "Timeout")
    const response = yield* settle(fetch("/body"))
    assert.strictEqual(told(yield* rejection(response.text())), "Timeout")
  }))

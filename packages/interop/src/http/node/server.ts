/** Node's own HTTP server, and its HTTP/2 one without TLS: the path says what to do. */
import { once } from "node:events"
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import * as Http2 from "node:http2"
import type { AddressInfo } from "node:net"
import { gzipSync } from "node:zlib"
import { commands, say } from "../../Console.ts"

const bodyOf = async (request: IncomingMessage): Promise<Buffer> => {
  const chunks: Array<Buffer> = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

let connections = 0
const numbers = new WeakMap<object, number>()

/** The number of the connection that a request came on, from 1. */
const numberOf = (socket: object): number => {
  const known = numbers.get(socket) ?? ++connections
  numbers.set(socket, known)
  return known
}

type Handler = (request: IncomingMessage, response: ServerResponse, query: URLSearchParams) => void | Promise<void>

const whole = (query: URLSearchParams, name: string): number => Number(query.get(name) ?? "0")

const handlers: Readonly<Record<string, Handler>> = {
  /** The body as it came; with `chunked` in the query without a length. */
  "/echo": async (request, response, query) => {
    const body = await bodyOf(request)
    const type = request.headers["content-type"] ?? "application/octet-stream"
    response.writeHead(200, {
      "content-type": type,
      "x-method": request.method!,
      ...(!query.has("chunked") && { "content-length": body.length })
    })
    if (query.has("chunked")) { for (let i = 0; i < body.length; i += 1000) response.write(body.subarray(i, i + 1000)) }
    response.end(query.has("chunked") ? undefined : body)
  },
  /** What it saw of the request, as JSON. */
  "/seen": async (request, response) => {
    const body = await bodyOf(request)
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({
      method: request.method,
      target: request.url,
      version: request.httpVersion,
      headers: request.rawHeaders,
      trailers: request.rawTrailers,
      length: body.length,
      connection: numberOf(request.socket)
    }))
  },
  "/status": (_, response, query) =>
    void response.writeHead(whole(query, "code"), query.get("reason") ?? undefined).end(query.get("body") ?? undefined),
  "/slow": (request, response, query) => {
    const answering = setTimeout(() => response.end("slow"), whole(query, "millis"))
    response.once("close", () => {
      clearTimeout(answering)
      if (!response.writableFinished) say("EVENT aborted", { session: numberOf(request.socket), target: request.url })
    })
  },
  /** So many bytes, in pieces that the client must take: `made` is how many it has taken, at the most, when it leaves. */
  "/pieces": async (request, response, query) => {
    const piece = Buffer.alloc(16 * 1024, "x")
    let made = 0
    response.once("close", () => {
      say("EVENT pieces", { session: numberOf(request.socket), made, finished: response.writableFinished })
    })
    while (made < whole(query, "bytes") && !response.destroyed) {
      made += piece.length
      if (!response.write(piece)) await Promise.race([once(response, "drain"), once(response, "close")])
    }
    response.end()
  },
  "/gzip": (_, response) =>
    void response.writeHead(200, { "content-encoding": "gzip", "content-type": "text/plain" }).end(
      gzipSync("compressed ".repeat(1000))
    ),
  "/trailers": (_, response) => {
    response.writeHead(200, { trailer: "x-sum, x-also" })
    response.write("body")
    response.addTrailers({ "x-sum": "4", "x-also": "yes" })
    response.end()
  },
  /** Interim responses before the one that counts. */
  "/interim": (_, response) => {
    response.writeProcessing()
    response.writeEarlyHints({ link: "</style.css>; rel=preload" })
    response.writeHead(200, { "x-last": "yes" }).end("final")
  },
  "/redirect": (_, response, query) =>
    void response.writeHead(whole(query, "code"), { location: query.get("to")! }).end("this way"),
  /** So many headers, of so many bytes each. */
  "/headers": (_, response, query) => {
    for (let i = 0; i < whole(query, "count"); i++) response.setHeader(`x-${i}`, "v".repeat(whole(query, "bytes")))
    response.appendHeader("set-cookie", "a=1").appendHeader("set-cookie", "b=2").end("headers")
  },
  /** Closes its connection after the answer, and says so. */
  "/last": (_, response) => void response.writeHead(200, { connection: "close" }).end("last")
}

const serve: Handler = async (request, response) => {
  const { pathname, searchParams } = new URL(request.url!, "http://any")
  const handler = handlers[pathname]
  if (handler === undefined) return void response.writeHead(404).end(`no ${pathname}`)
  await handler(request, response, searchParams)
}

const failed = (response: ServerResponse) => (error: unknown): void => {
  // A client that leaves in the middle of its body is no failure of the server.
  if (!response.destroyed) response.destroy(error as Error)
}

const answer = (request: IncomingMessage, response: ServerResponse): void => {
  Promise.resolve(serve(request, response, new URLSearchParams())).catch(failed(response))
}

const http1 = createServer({ maxHeaderSize: 256 * 1024 }, answer).listen(0, "127.0.0.1")
const http2 = Http2.createServer((request, response) =>
  answer(request as unknown as IncomingMessage, response as unknown as ServerResponse)
).listen(0, "127.0.0.1")
await Promise.all([once(http1, "listening"), once(http2, "listening")])

say("READY", {
  http1: (http1.address() as AddressInfo).port,
  http2: (http2.address() as AddressInfo).port
})
await commands(async (id, [word]) => {
  if (word === "connections") say("OK", { id, connections })
  // Those that idle are closed: by a server that does not say so beforehand.
  else if (word === "close-idle") {
    http1.closeIdleConnections()
    say("OK", { id })
  } else say("ERROR", { id, message: `no command ${word}` })
})

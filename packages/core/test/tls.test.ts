/** TLS on real sockets: what is refused and why, on both sides, what is said of it, and what is left behind. */
import { assert, describe, it } from "@effect/vitest"
import { ConnectFailed, Endpoint, InvalidOption } from "@scales-rpc/core"
import { Socket, Tls, type TlsClientOptions, type TlsServerOptions } from "@scales-rpc/core/socket"
import { Certificates } from "@scales-rpc/core/testing"
import { Deferred, Effect, Exit, Fiber, Logger, Redacted, References, type Scope } from "effect"
import * as Crypto from "node:crypto"
import { once } from "node:events"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import * as NodeTls from "node:tls"
import * as Util from "node:util"

const authority = Certificates.authority("tests")
const own = authority.issue()
const stranger = Certificates.authority("stranger")
const day = 86_400_000
const ago = (days: number): Date => new Date(Date.now() - days * day)

/** Listens on 127.0.0.1, until the scope closes; then nothing of it is left. */
const listen = (onConnection: (socket: Net.Socket) => void): Effect.Effect<Endpoint, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const sockets = new Set<Net.Socket>()
      const server = Net.createServer((socket) => {
        sockets.add(socket)
        socket.on("error", () => {})
        socket.on("close", () => sockets.delete(socket))
        onConnection(socket)
      }).listen(0, "127.0.0.1")
      await once(server, "listening")
      return { server, sockets, endpoint: Endpoint.tcp("127.0.0.1", (server.address() as Net.AddressInfo).port) }
    }),
    ({ server, sockets }) =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        for (const socket of sockets) socket.destroy()
      })
  ).pipe(Effect.map(({ endpoint }) => endpoint))

/** A server that sends back what it gets; `first` is what became of its first handshake. */
const echo = (options: TlsServerOptions) =>
  Effect.gen(function*() {
    const tls = yield* Tls.server(options)
    const first = yield* Deferred.make<NodeTls.TLSSocket, Tls.TlsFailed>()
    const context = yield* Effect.context()
    const endpoint = yield* listen((socket) => {
      Effect.runForkWith(context)(
        Effect.exit(tls.secure(socket)).pipe(Effect.flatMap((exit) => {
          if (Exit.isSuccess(exit)) exit.value.on("data", (chunk) => exit.value.write(chunk))
          return Deferred.done(first, exit)
        }))
      )
    })
    return { endpoint, tls, first: Deferred.await(first) }
  })

/** A socket secured with `options`. */
const open = (endpoint: Endpoint, options?: TlsClientOptions) =>
  Effect.flatMap(Tls.client(options), (tls) => Socket.open(endpoint, { connectTimeoutMillis: 5000, tls }))

/** Sends text and gives what comes back; an error of the connection is the effect's. */
const ask = (socket: Net.Socket, text = "hi") =>
  Effect.callback<string, Error>((resume) => {
    socket.once("data", (chunk: Buffer) => resume(Effect.succeed(chunk.toString())))
    socket.once("error", (error) => resume(Effect.fail(error)))
    socket.once("end", () => resume(Effect.fail(new Error("the end"))))
    socket.write(text)
  })

/** What kept a connection from being secured. */
const refusal = (opening: Effect.Effect<unknown, ConnectFailed | InvalidOption, Scope.Scope>) =>
  Effect.gen(function*() {
    const error = yield* Effect.flip(Effect.scoped(opening))
    assert.instanceOf(error, ConnectFailed)
    assert.strictEqual(error.phase, "tls")
    assert.strictEqual(error.reached, "no")
    assert.isTrue(error.retryable)
    assert.instanceOf(error.cause, Tls.TlsFailed)
    return error.cause
  })

/** Which option was refused, and what the message says. */
const refusedOption = (checked: Effect.Effect<unknown, InvalidOption>) =>
  Effect.map(Effect.flip(checked), (error) => {
    assert.instanceOf(error, InvalidOption)
    return error
  })

/** The name that the client asked for: `false`, none. Node's types do not know it. */
const serverNameOf = (served: NodeTls.TLSSocket): unknown => (served as { readonly servername?: unknown }).servername

const folder = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "scales-tls-"))),
  (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true }))
)

describe("a secured connection", () => {
  it.live("carries bytes both ways, in TLS 1.3", () =>
    Effect.gen(function*() {
      const server = yield* echo(own)
      const socket = yield* open(server.endpoint, { ca: authority.certificate })
      assert.strictEqual(yield* ask(socket), "hi")
      assert.instanceOf(socket, NodeTls.TLSSocket)
      assert.strictEqual((socket as NodeTls.TLSSocket).getProtocol(), "TLSv1.3")
      assert.isTrue(socket.authorized)
    }))

  it.live("takes PEM as text, as bytes and from a file, and a key that is encrypted", () =>
    Effect.gen(function*() {
      const path = Path.join(yield* folder, "certificate.pem")
      const locked = authority.issue({ passphrase: "open sesame" })
      Fs.writeFileSync(path, locked.certificate)
      for (const passphrase of ["open sesame", Redacted.make("open sesame")]) {
        const server = yield* echo({ certificate: { path }, key: Buffer.from(locked.key), passphrase })
        assert.strictEqual(yield* ask(yield* open(server.endpoint, { ca: Buffer.from(authority.certificate) })), "hi")
      }
    }))

  it.live("asks for the server by name, and by none when that is an address", () =>
    Effect.gen(function*() {
      const named = yield* echo(own)
      yield* open(named.endpoint, { ca: authority.certificate, serverName: "localhost" })
      assert.strictEqual(serverNameOf(yield* named.first), "localhost")
      const unnamed = yield* echo(own)
      yield* open(unnamed.endpoint, { ca: authority.certificate })
      assert.strictEqual(serverNameOf(yield* unnamed.first), false)
    }))

  it.live("goes over a Unix socket, to localhost", () =>
    Effect.gen(function*() {
      const path = Path.join(yield* folder, "socket")
      const tls = yield* Tls.server(own)
      const server = Net.createServer((socket) =>
        void Effect.runFork(Effect.map(tls.secure(socket), (secured) => secured.pipe(secured)))
      ).listen(path)
      yield* Effect.addFinalizer(() => Effect.sync(() => server.close()))
      yield* Effect.promise(() => once(server, "listening"))
      const socket = yield* open(Endpoint.unix(path), { ca: authority.certificate })
      assert.strictEqual(yield* ask(socket), "hi")
    }))

  it.live("goes on with what was read before TLS began", () =>
    Effect.gen(function*() {
      const tls = yield* Tls.server(own)
      const endpoint = yield* listen((socket) => {
        // The hello of TLS comes while somebody else still has the socket, and has paused it.
        socket.once("readable", () =>
          void Effect.runFork(Effect.map(tls.secure(socket), (secured) => secured.pipe(secured))))
      })
      assert.strictEqual(yield* ask(yield* open(endpoint, { ca: authority.certificate })), "hi")
    }))

  it.live("ends with its scope, on both sides", () =>
    Effect.gen(function*() {
      const server = yield* echo(own)
      const socket = yield* Effect.scoped(
        Effect.tap(open(server.endpoint, { ca: authority.certificate }), (socket) => ask(socket))
      )
      assert.isTrue(socket.destroyed)
      const served = yield* server.first
      if (!served.destroyed) yield* Effect.promise(() => once(served, "close"))
    }))
})

describe("a server's certificate is refused", () => {
  const refused = (
    name: string,
    server: TlsServerOptions,
    client: TlsClientOptions,
    reason: Tls.TlsReason,
    what: RegExp,
    code: string
  ) =>
    it.live(name, () =>
      Effect.gen(function*() {
        const { endpoint, first } = yield* echo(server)
        const cause = yield* refusal(open(endpoint, client))
        assert.strictEqual(cause.reason, reason)
        assert.match(cause.what, what)
        assert.strictEqual((cause.cause as { code: string }).code, code)
        yield* Effect.exit(first)
      }))

  const trusting = { ca: authority.certificate }

  refused(
    "when another authority has signed it",
    stranger.issue(),
    trusting,
    "untrusted",
    /^untrusted issuer/,
    "UNABLE_TO_VERIFY_LEAF_SIGNATURE"
  )
  refused(
    "when no authority is given and Node knows none of its",
    own,
    {},
    "untrusted",
    /^untrusted issuer/,
    "UNABLE_TO_VERIFY_LEAF_SIGNATURE"
  )
  refused(
    "when an authority with the same name but another key has signed it",
    Certificates.authority("tests").issue(),
    trusting,
    "untrusted",
    /^untrusted issuer/,
    "CERT_SIGNATURE_FAILURE"
  )
  refused(
    "when it is its own authority",
    (({ certificate, key }) => ({ certificate, key }))(Certificates.selfSigned()),
    trusting,
    "untrusted",
    /^untrusted issuer/,
    "DEPTH_ZERO_SELF_SIGNED_CERT"
  )
  refused(
    "when it has expired",
    authority.issue({ notBefore: ago(10), notAfter: ago(1) }),
    trusting,
    "expired",
    /has expired/,
    "CERT_HAS_EXPIRED"
  )
  refused(
    "when it is not yet valid",
    authority.issue({ notBefore: ago(-1), notAfter: ago(-2) }),
    trusting,
    "not-yet-valid",
    /is not yet valid/,
    "CERT_NOT_YET_VALID"
  )
  refused(
    "when it is for another name, and both are said",
    authority.issue({ hosts: ["a.example", "10.0.0.1"] }),
    trusting,
    "wrong-name",
    /^name mismatch: the peer's certificate is for DNS:a\.example, IP Address:10\.0\.0\.1, and not for 127\.0\.0\.1$/,
    "ERR_TLS_CERT_ALTNAME_INVALID"
  )
  refused(
    "when it is not for the server name that was given",
    own,
    { ...trusting, serverName: "b.example" },
    "wrong-name",
    /for DNS:localhost, IP Address:127\.0\.0\.1, and not for b\.example$/,
    "ERR_TLS_CERT_ALTNAME_INVALID"
  )
})

describe("mutual TLS", () => {
  const server = (clients: TlsServerOptions["clients"]) => ({ ...own, ca: authority.certificate, clients })
  const client = { ca: authority.certificate }

  it.live("shows the server who the client is", () =>
    Effect.gen(function*() {
      for (const clients of ["required", "optional"] as const) {
        const { endpoint, first } = yield* echo(server(clients))
        const socket = yield* open(endpoint, { ...client, ...authority.issue({ name: "alice", hosts: [] }) })
        assert.strictEqual(yield* ask(socket), "hi")
        const served = yield* first
        assert.strictEqual(served.getPeerX509Certificate()?.subject, "CN=alice")
        assert.isTrue(served.authorized)
      }
    }))

  it.live("takes a client without a certificate when that is optional", () =>
    Effect.gen(function*() {
      const { endpoint, first } = yield* echo(server("optional"))
      assert.strictEqual(yield* ask(yield* open(endpoint, client)), "hi")
      assert.isUndefined((yield* first).getPeerX509Certificate())
    }))

  it.live("refuses one that another authority has signed, required or not", () =>
    Effect.gen(function*() {
      for (const clients of ["required", "optional"] as const) {
        const { endpoint, first } = yield* echo(server(clients))
        const socket = yield* open(endpoint, { ...client, ...stranger.issue() })
        // The server's verdict comes after the client's handshake has ended, in TLS 1.3.
        yield* Effect.flip(ask(socket))
        const error = yield* Effect.flip(first)
        assert.strictEqual(error.reason, "untrusted")
      }
    }))

  it.live("refuses one that has expired", () =>
    Effect.gen(function*() {
      const { endpoint, first } = yield* echo(server("required"))
      const expired = authority.issue({ notBefore: ago(3), notAfter: ago(2) })
      yield* Effect.flip(ask(yield* open(endpoint, { ...client, ...expired })))
      assert.strictEqual((yield* Effect.flip(first)).reason, "expired")
    }))

  it.live("refuses a client without a certificate, and the client hears why", () =>
    Effect.gen(function*() {
      const { endpoint, first } = yield* echo(server("required"))
      const error = yield* Effect.flip(ask(yield* open(endpoint, client)))
      const late = Tls.lateFailure(error)
      assert.strictEqual(late?.reason, "certificate-required")
      assert.match(late!.what, /^the peer wants a certificate/)
      const fault = yield* Effect.flip(first)
      assert.strictEqual(fault.reason, "certificate-required")
      assert.match(fault.what, /^the peer showed no certificate/)
    }))

  it("is understood in the error of a write too, and other errors of a socket say nothing about TLS", () => {
    const alert = Object.assign(
      new Error(
        "write EPROTO 00:error:0A00045C:SSL routines:ssl3_read_bytes:tlsv13 alert certificate required:../x.c:1:"
      ),
      { code: "EPROTO" }
    )
    assert.strictEqual(Tls.lateFailure(alert)?.reason, "certificate-required")
    assert.isUndefined(Tls.lateFailure(Object.assign(new Error("reset"), { code: "ECONNRESET" })))
    assert.isUndefined(Tls.lateFailure("the server closed the connection"))
  })

  it.live("fails in the handshake when a server of TLS 1.2 wants a certificate", () =>
    Effect.gen(function*() {
      const old = NodeTls.createServer({
        cert: own.certificate,
        key: own.key,
        ca: authority.certificate,
        requestCert: true,
        rejectUnauthorized: true,
        maxVersion: "TLSv1.2"
      })
      const endpoint = yield* listen((socket) => old.emit("connection", socket))
      const cause = yield* refusal(open(endpoint, client))
      assert.strictEqual(cause.reason, "version")
      assert.match(cause.what, /or wants a certificate$/)
    }))
})

describe("a peer that cannot", () => {
  it.live("is a server that does not speak TLS", () =>
    Effect.gen(function*() {
      const endpoint = yield* listen((socket) => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"))
      const cause = yield* refusal(open(endpoint))
      assert.strictEqual(cause.reason, "not-tls")
      assert.strictEqual(cause.what, "the peer does not speak TLS")
    }))

  it.live("is a client that does not speak TLS, whatever it sends", () =>
    Effect.gen(function*() {
      // A mux probe, a framed Thrift call, HTTP, and nothing that anybody speaks.
      for (const hello of ["0000000f7f000001", "0000001180010001", "474554202f20", "ffffffffffffffffffff"]) {
        const { endpoint, first } = yield* echo(own)
        const socket = yield* Socket.open(endpoint, { connectTimeoutMillis: 5000 })
        socket.write(Buffer.from(hello, "hex"))
        const error = yield* Effect.flip(first)
        assert.strictEqual(error.reason, "not-tls", `${hello}: ${Util.inspect(error.cause)}`)
      }
    }))

  it.live("is a server of TLS 1.1", () =>
    Effect.gen(function*() {
      const old = NodeTls.createServer({
        cert: own.certificate,
        key: own.key,
        minVersion: "TLSv1.1",
        maxVersion: "TLSv1.1",
        ciphers: "DEFAULT@SECLEVEL=0"
      })
      const endpoint = yield* listen((socket) => old.emit("connection", socket))
      const cause = yield* refusal(open(endpoint))
      assert.strictEqual(cause.reason, "version")
    }))

  it.live("is a client of TLS 1.1, or of 1.2 where 1.3 is the least", () =>
    Effect.gen(function*() {
      for (
        const [version, minVersion] of [["TLSv1.1", undefined], ["TLSv1.2", "TLSv1.3"]] as const
      ) {
        const { endpoint, first } = yield* echo({ ...own, minVersion })
        const client = NodeTls.connect({
          host: "127.0.0.1",
          port: endpoint.port,
          ca: authority.certificate,
          minVersion: version,
          maxVersion: version,
          ciphers: "DEFAULT@SECLEVEL=0"
        })
        client.on("error", () => {})
        assert.strictEqual((yield* Effect.flip(first)).reason, "version")
        client.destroy()
      }
    }))

  it.live("is a server that says nothing", () =>
    Effect.gen(function*() {
      const endpoint = yield* listen(() => {})
      const cause = yield* refusal(open(endpoint, { handshakeTimeout: "50 millis" }))
      assert.strictEqual(cause.reason, "timeout")
      assert.strictEqual(cause.what, "no TLS handshake within 50 ms")
    }))

  it.live("is a client that stops in the middle of its hello, and its socket is gone", () =>
    Effect.gen(function*() {
      const { endpoint, first } = yield* echo({ ...own, handshakeTimeout: "50 millis" })
      const socket = yield* Socket.open(endpoint, { connectTimeoutMillis: 5000 })
      socket.write(Buffer.from("160301020001", "hex"))
      socket.resume()
      assert.strictEqual((yield* Effect.flip(first)).reason, "timeout")
      if (!socket.destroyed) yield* Effect.promise(() => once(socket, "close"))
    }))

  it.live("is a server that resets, or closes, in the handshake", () =>
    Effect.gen(function*() {
      const resetting = yield* listen((socket) => void socket.once("data", () => socket.resetAndDestroy()))
      assert.strictEqual((yield* refusal(open(resetting))).reason, "closed")
      const closing = yield* listen((socket) => void socket.once("data", () => socket.end()))
      assert.strictEqual((yield* refusal(open(closing))).reason, "closed")
    }))

  it.live("is a client that resets, or has gone before the handshake began", () =>
    Effect.gen(function*() {
      const { endpoint, first } = yield* echo(own)
      const socket = yield* Socket.open(endpoint, { connectTimeoutMillis: 5000 })
      socket.write(Buffer.from("160301020001", "hex"), () => socket.resetAndDestroy())
      assert.strictEqual((yield* Effect.flip(first)).reason, "closed")
      const tls = yield* Tls.server(own)
      const gone = new Net.Socket()
      gone.destroy()
      assert.strictEqual((yield* Effect.flip(tls.secure(gone))).reason, "closed")
    }))

  it.live("is one that the program gives up on: the socket is destroyed", () =>
    Effect.gen(function*() {
      const accepted = yield* Deferred.make<Net.Socket>()
      const endpoint = yield* listen((socket) => void Deferred.doneUnsafe(accepted, Effect.succeed(socket.resume())))
      const raw = yield* Socket.open(endpoint, { connectTimeoutMillis: 5000 })
      const tls = yield* Tls.client()
      const fiber = yield* Effect.forkChild(tls.secure(raw, endpoint), { startImmediately: true })
      const peer = yield* Deferred.await(accepted)
      yield* Effect.promise(() => once(peer, "data"))
      fiber.interruptUnsafe()
      yield* Effect.promise(() => once(peer, "close"))
      assert.isTrue(raw.destroyed)
    }))
})

describe("options", () => {
  const path = "/nowhere/at-all.pem"
  const junk = "-----BEGIN CERTIFICATE-----\nc2VjcmV0IGp1bms=\n-----END CERTIFICATE-----"
  const locked = authority.issue({ passphrase: "open sesame" })
  const cases: ReadonlyArray<readonly [string, Effect.Effect<unknown, InvalidOption>, string, RegExp]> = [
    ["a file that is not there", Tls.client({ ca: { path } }), "tls.ca", /\/nowhere\/at-all\.pem.*\(ENOENT\)/],
    ["a folder", Tls.client({ ca: { path: Os.tmpdir() } }), "tls.ca", /\(EISDIR\)/],
    [
      "an authority that is no PEM",
      Tls.client({ ca: "secret junk" }),
      "tls.ca",
      /got text, expected at least one certificate in PEM/
    ],
    ["a certificate that is junk", Tls.client({ ca: junk }), "tls.ca", /at least one certificate/],
    [
      "one good and one broken authority",
      Tls.client({ ca: authority.certificate + junk }),
      "tls.ca",
      /at least one certificate/
    ],
    [
      "a key in place of a certificate",
      Tls.server({ certificate: own.key, key: own.key }),
      "tls.certificate",
      /certificate in PEM/
    ],
    [
      "a certificate in place of a key",
      Tls.server({ certificate: own.certificate, key: own.certificate }),
      "tls.key",
      /private key in PEM/
    ],
    [
      "bytes that are no key",
      Tls.server({ ...own, key: Buffer.from("secret junk") }),
      "tls.key",
      /got bytes, expected a private key/
    ],
    [
      "something that is no PEM at all",
      Tls.client({ ca: 3 as never }),
      "tls.ca",
      /got number, expected PEM as text, as bytes, or as/
    ],
    [
      "a key of another certificate",
      Tls.server({ certificate: own.certificate, key: authority.issue().key }),
      "tls.key",
      /the private key of tls\.certificate/
    ],
    ["a certificate without a key", Tls.client({ certificate: own.certificate }), "tls.key", /the private key of/],
    ["a key without a certificate", Tls.client({ key: own.key }), "tls.certificate", /the certificate of tls\.key/],
    ["an encrypted key without its passphrase", Tls.server(locked), "tls.passphrase", /which is encrypted/],
    [
      "the wrong passphrase",
      Tls.server({ ...locked, passphrase: "secret junk" }),
      "tls.passphrase",
      /the passphrase of tls\.key/
    ],
    ["an empty server name", Tls.client({ serverName: "" }), "tls.serverName", /the name of a host/],
    ["an old version", Tls.client({ minVersion: "TLSv1.1" as never }), "tls.minVersion", /TLSv1\.2 or TLSv1\.3/],
    ["no time", Tls.client({ handshakeTimeout: 0 }), "tls.handshakeTimeout", /at least 1 ms/],
    ["a server without a certificate", Tls.server({} as never), "tls.certificate", /the server's certificate/],
    [
      "clients that are neither",
      Tls.server({ ...own, clients: "some" as never }),
      "tls.clients",
      /anonymous, optional or required/
    ],
    ["no authority for clients", Tls.server({ ...own, clients: "required" }), "tls.ca", /authorities of clients/],
    [
      "an authority nobody is asked for",
      Tls.server({ ...own, ca: authority.certificate }),
      "tls.ca",
      /none while tls\.clients/
    ]
  ]
  for (const [name, checked, option, what] of cases) {
    it.effect(`refuse ${name}`, () =>
      Effect.gen(function*() {
        const error = yield* refusedOption(checked)
        assert.strictEqual(error.option, option)
        assert.match(error.message, what)
        for (const shown of [error.message, String(error), JSON.stringify(error), Util.inspect(error, { depth: 9 })]) {
          assert.notMatch(shown, /secret junk|c2VjcmV0|open sesame|BEGIN/)
        }
      }))
  }

  it.effect("are described without any content", () =>
    Effect.gen(function*() {
      const passphrase = "open sesame"
      const client = yield* Tls.client({
        ...locked,
        passphrase,
        ca: Buffer.from(authority.certificate),
        serverName: "a"
      })
      const server = yield* Tls.server({ ...locked, passphrase, ca: authority.certificate, clients: "required" })
      assert.deepStrictEqual(client.description, {
        ca: "bytes",
        certificate: "text",
        minVersion: "TLSv1.2",
        handshakeTimeoutMillis: 5000,
        serverName: "a"
      })
      assert.deepStrictEqual(server.description, {
        ca: "text",
        certificate: "text",
        minVersion: "TLSv1.2",
        handshakeTimeoutMillis: 5000,
        clients: "required"
      })
      const shown = Util.inspect([client, server], { depth: 9, showHidden: true }) + JSON.stringify([client, server])
      assert.notMatch(shown, /open sesame|BEGIN/)
    }))

  it.live("do not show in a failure, whatever is printed of it", () =>
    Effect.gen(function*() {
      const passphrase = "open sesame"
      const { endpoint, first } = yield* echo({ ...stranger.issue({ passphrase }), passphrase })
      const error = yield* Effect.flip(
        Effect.scoped(open(endpoint, { ...locked, passphrase, ca: authority.certificate }))
      )
      const served = yield* Effect.flip(first)
      const shown = Util.inspect([error, served], { depth: 9 }) + JSON.stringify([error, served])
      assert.notMatch(shown, /open sesame|PRIVATE/)
      for (const line of locked.key.split("\n").slice(1, -2)) assert.notInclude(shown, line)
    }))

  it.effect("do not show when they are given where a path is expected", () =>
    Effect.gen(function*() {
      for (const option of ["key", "certificate", "ca"] as const) {
        const error = yield* Effect.flip(Tls.client({ ...locked, passphrase: "x", [option]: { path: locked.key } }))
        const shown = Util.inspect(error, { depth: 9 }) + JSON.stringify(error)
        assert.include(shown, "PEM where a path is expected")
        for (const line of locked.key.split("\n").slice(0, -2)) assert.notInclude(shown, line)
      }
    }))
})

describe("files that change", () => {
  /** The text of every warning. */
  const warnings = () => {
    const lines: Array<string> = []
    const layer = Logger.layer([
      Logger.make(({ fiber, logLevel, message }) => {
        const { cause } = fiber.getRef(References.CurrentLogAnnotations)
        if (logLevel === "Warn") lines.push(`${String(message)}: ${String(cause)}`)
      })
    ])
    return { lines, layer }
  }

  const files = Effect.map(folder, (folder) => {
    const at = (name: string) => Path.join(folder, name)
    const write = (certified: Certificates.Certified) => {
      Fs.writeFileSync(at("certificate"), certified.certificate)
      Fs.writeFileSync(at("key"), certified.key)
    }
    return { at, write, options: { certificate: { path: at("certificate") }, key: { path: at("key") } } }
  })

  const peerOf = (socket: Net.Socket) => (socket as NodeTls.TLSSocket).getPeerX509Certificate()!.subject

  it.live("are read again for the next connection, and open ones stay", () =>
    Effect.gen(function*() {
      const { options, write } = yield* files
      write(authority.issue({ name: "first" }))
      const { endpoint } = yield* echo(options)
      const before = yield* open(endpoint, { ca: authority.certificate })
      write(authority.issue({ name: "second" }))
      const after = yield* open(endpoint, { ca: authority.certificate })
      assert.deepStrictEqual([before, after].map(peerOf), ["CN=first", "CN=second"])
      assert.strictEqual(yield* ask(before), "hi")
      assert.strictEqual(yield* ask(after), "hi")
    }))

  it.live("may be links that point elsewhere now, as Kubernetes replaces secrets", () =>
    Effect.gen(function*() {
      const { at } = yield* files
      for (const name of ["first", "second"]) {
        Fs.mkdirSync(at(name))
        const certified = authority.issue({ name })
        Fs.writeFileSync(at(`${name}/tls.crt`), certified.certificate)
        Fs.writeFileSync(at(`${name}/tls.key`), certified.key)
      }
      Fs.symlinkSync("first", at("data"))
      const { endpoint } = yield* echo({ certificate: { path: at("data/tls.crt") }, key: { path: at("data/tls.key") } })
      assert.strictEqual(peerOf(yield* open(endpoint, { ca: authority.certificate })), "CN=first")
      Fs.symlinkSync("second", at("next"))
      Fs.renameSync(at("next"), at("data"))
      assert.strictEqual(peerOf(yield* open(endpoint, { ca: authority.certificate })), "CN=second")
    }))

  it.live("move a client from one authority to another", () =>
    Effect.gen(function*() {
      const { at } = yield* files
      Fs.writeFileSync(at("ca"), authority.certificate)
      const tls = yield* Tls.client({ ca: { path: at("ca") } })
      const connect = (endpoint: Endpoint) => Socket.open(endpoint, { connectTimeoutMillis: 5000, tls })
      const older = yield* echo(own)
      const newer = yield* echo(stranger.issue())
      yield* connect(older.endpoint)
      assert.strictEqual((yield* refusal(connect(newer.endpoint))).reason, "untrusted")
      Fs.writeFileSync(at("ca"), authority.certificate + stranger.certificate)
      yield* connect(older.endpoint)
      yield* connect(newer.endpoint)
      Fs.writeFileSync(at("ca"), stranger.certificate)
      assert.strictEqual((yield* refusal(connect(older.endpoint))).reason, "untrusted")
    }))

  it.live("are read although the connection that noticed is given up, at whatever step", () =>
    Effect.gen(function*() {
      const { options, write } = yield* files
      write(authority.issue({ name: "0" }))
      const { endpoint } = yield* echo(options)
      assert.strictEqual(peerOf(yield* open(endpoint, { ca: authority.certificate })), "CN=0")
      for (let turns = 1; turns <= 30; turns++) {
        write(authority.issue({ name: String(turns) }))
        const given = yield* Effect.forkChild(Effect.scoped(open(endpoint, { ca: authority.certificate })), {
          startImmediately: true
        })
        for (let turn = 0; turn < turns; turn++) yield* Effect.promise(() => new Promise(setImmediate))
        yield* Fiber.interrupt(given)
        assert.strictEqual(peerOf(yield* open(endpoint, { ca: authority.certificate })), `CN=${turns}`)
      }
    }))

  it.live("and are broken leave the old ones in force, with one warning that shows nothing of them", () =>
    Effect.gen(function*() {
      const { lines, layer } = warnings()
      yield* Effect.gen(function*() {
        const { at, options, write } = yield* files
        write(authority.issue({ name: "first" }))
        const { endpoint } = yield* echo(options)
        const connected = Effect.map(open(endpoint, { ca: authority.certificate }), peerOf)
        Fs.writeFileSync(at("key"), "secret junk")
        for (let i = 0; i < 3; i++) assert.strictEqual(yield* connected, "CN=first")
        assert.strictEqual(lines.length, 1)
        assert.match(
          lines[0]!,
          /the old ones stay in force: invalid option tls\.key: got .*key, expected a private key/
        )
        // Half replaced: the new key, and not yet its certificate.
        const second = authority.issue({ name: "second" })
        Fs.writeFileSync(at("key"), second.key)
        assert.strictEqual(yield* connected, "CN=first")
        assert.strictEqual(lines.length, 2)
        assert.match(lines[1]!, /the private key of tls\.certificate/)
        Fs.rmSync(at("certificate"))
        assert.strictEqual(yield* connected, "CN=first")
        assert.strictEqual(lines.length, 3)
        assert.match(lines[2]!, /ENOENT/)
        write(second)
        assert.strictEqual(yield* connected, "CN=second")
        assert.strictEqual(lines.length, 3)
      }).pipe(Effect.scoped, Effect.provide(layer))
      assert.notMatch(lines.join(), /secret junk|BEGIN/)
    }))

  it.live("are read once when a hundred connections find them changed at the same time", () =>
    Effect.gen(function*() {
      const { lines, layer } = warnings()
      yield* Effect.gen(function*() {
        const { at, options, write } = yield* files
        write(authority.issue({ name: "first" }))
        const { endpoint } = yield* echo(options)
        Fs.writeFileSync(at("key"), "secret junk")
        const client = yield* Tls.client({ ca: authority.certificate })
        yield* Effect.forEach(
          Array.from({ length: 100 }),
          () => Effect.scoped(Socket.open(endpoint, { connectTimeoutMillis: 5000, tls: client })),
          { concurrency: "unbounded", discard: true }
        )
      }).pipe(Effect.scoped, Effect.provide(layer))
      assert.strictEqual(lines.length, 1)
    }))
})

describe("a thousand connections", () => {
  it.live("leave no socket behind, good or refused", () =>
    Effect.gen(function*() {
      const held = () =>
        process.getActiveResourcesInfo().filter((name) => /TCPSocket|TLS|Timeout|FSReq/.test(name)).length
      const before = held()
      yield* Effect.scoped(Effect.gen(function*() {
        const { endpoint } = yield* echo(own)
        const good = yield* Tls.client({ ca: authority.certificate })
        const bad = yield* Tls.client({ ca: stranger.certificate })
        yield* Effect.forEach(
          Array.from({ length: 1000 }, (_, i) => i),
          (i) =>
            Effect.exit(Effect.scoped(
              Effect.flatMap(
                Socket.open(endpoint, { connectTimeoutMillis: 20_000, tls: i % 4 === 0 ? bad : good }),
                (socket) => ask(socket)
              )
            )).pipe(Effect.map((exit) => assert.strictEqual(Exit.isSuccess(exit), i % 4 !== 0))),
          { concurrency: 20, discard: true }
        )
      }))
      yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      assert.isAtMost(held(), before)
    }), 60_000)
})

describe("certificates for tests", () => {
  it("are X.509 that node:crypto reads and verifies", () => {
    const { certificate, key } = authority.issue({ name: "höst", hosts: ["a.example", "127.0.0.1"] })
    const read = new Crypto.X509Certificate(certificate)
    const issuer = new Crypto.X509Certificate(authority.certificate)
    assert.deepStrictEqual(
      [read.subject, read.issuer, read.subjectAltName, read.ca, issuer.ca],
      ["CN=höst", "CN=tests", "DNS:a.example, IP Address:127.0.0.1", false, true]
    )
    assert.isTrue(read.checkIssued(issuer) && read.verify(issuer.publicKey))
    assert.isTrue(read.checkPrivateKey(Crypto.createPrivateKey(key)))
    assert.isFalse(read.verify(new Crypto.X509Certificate(stranger.certificate).publicKey))
  })

  it("have the dates they are given, past 2049 too", () => {
    const { certificate } = authority.issue({
      notBefore: new Date("2001-02-03T04:05:06Z"),
      notAfter: new Date("2100-01-01T00:00:00Z")
    })
    const { validFromDate, validToDate } = new Crypto.X509Certificate(certificate)
    assert.strictEqual(validFromDate.toISOString(), "2001-02-03T04:05:06.000Z")
    assert.strictEqual(validToDate.toISOString(), "2100-01-01T00:00:00.000Z")
  })
})

/**
 * TLS over sockets that are connected, for every transport and server: one set of options for each side, checked when a
 * layer is built, and failures that say which check failed.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import * as Net from "node:net"
import * as NodeTls from "node:tls"
import { Endpoint } from "./Endpoint.ts"
import { describe, type Pem, reloading, sourceOf } from "./internal/tlsMaterial.ts"
import { durationMillis } from "./options.ts"
import { ConnectFailed, Failure, InvalidOption } from "./RpcError.ts"

export type { Pem } from "./internal/tlsMaterial.ts"

/** Options of TLS in a client. */
export interface TlsClientOptions {
  /** The authorities whose certificates are trusted, and nobody else. Default: those that Node trusts. */
  readonly ca?: Pem | undefined
  /**
   * The client's own certificate, with the intermediate ones behind it, for servers that ask for one. Default: none.
   */
  readonly certificate?: Pem | undefined
  /** The private key of `certificate`. */
  readonly key?: Pem | undefined
  /** Opens an encrypted `key`. */
  readonly passphrase?: string | Redacted.Redacted | undefined
  /**
   * The name that is asked for (SNI) and that the server's certificate must have. Default: the endpoint's host;
   * `localhost` on a Unix socket.
   */
  readonly serverName?: string | undefined
  /** The oldest version to speak. Default TLSv1.2. */
  readonly minVersion?: "TLSv1.2" | "TLSv1.3" | undefined
  /** How long the TLS handshake may take. Default 5 seconds. */
  readonly handshakeTimeout?: Duration.Input | undefined
}

/** Options of TLS in a server. */
export interface TlsServerOptions {
  /** The server's certificate, with the intermediate ones behind it. */
  readonly certificate: Pem
  /** The private key of `certificate`. */
  readonly key: Pem
  /** Opens an encrypted `key`. */
  readonly passphrase?: string | Redacted.Redacted | undefined
  /**
   * Whether clients show a certificate: `anonymous`: they are not asked; `optional`: they may, and one that they show
   * must be good; `required`: they must. Default `anonymous`.
   */
  readonly clients?: "anonymous" | "optional" | "required" | undefined
  /** The authorities that vouch for clients: needed unless they are anonymous, and refused if they are. */
  readonly ca?: Pem | undefined
  /** The oldest version to speak. Default TLSv1.2. */
  readonly minVersion?: "TLSv1.2" | "TLSv1.3" | undefined
  /** How long the TLS handshake may take before the connection is cut. Default 5 seconds. */
  readonly handshakeTimeout?: Duration.Input | undefined
}

/**
 * Which check failed. `untrusted`: no authority that is trusted has signed the peer's certificate. `expired`,
 * `not-yet-valid`: its dates. `wrong-name`: it is another's. `wrong-purpose`: it is for
 * something else, a client's shown by a server. `certificate-required`: the peer showed none, or wants
 * one. `certificate-refused`: the peer does not accept the one it was shown; Java says the same when it wants one and
 * was shown none. `version`: no TLS version, or no cipher, in common; a server up to TLS 1.2 may mean that it wants a
 * certificate. `not-tls`: the peer speaks something else. `closed`: the connection ended in the handshake. `timeout`:
 * no end of the handshake in time. `not-negotiated`: where TLS is negotiated (mux), one side requires it and the other
 * has none. `other`: `cause` says what.
 */
export type TlsReason =
  | "untrusted"
  | "expired"
  | "not-yet-valid"
  | "wrong-name"
  | "wrong-purpose"
  | "certificate-required"
  | "certificate-refused"
  | "version"
  | "not-tls"
  | "closed"
  | "timeout"
  | "not-negotiated"
  | "other"

/** A connection could not be secured: `reason` for programs, `what` in plain words, `cause` as Node said it. */
export class TlsFailed extends Failure("TlsFailed")<{
  readonly reason: TlsReason
  readonly what: string
  readonly cause: unknown
}> {
  override get message(): string {
    return this.what
  }
}

const failed = (reason: TlsReason, what: string, cause: unknown): TlsFailed => new TlsFailed({ reason, what, cause })

/**
 * By the code of Node's error: OpenSSL's verdict on a certificate, an alert of the peer's (`ALERT`), or what OpenSSL
 * met itself.
 */
const reasons: ReadonlyArray<readonly [RegExp, TlsReason, string]> = [
  [/^CERT_HAS_EXPIRED$/, "expired", "the peer's certificate has expired"],
  [/^CERT_NOT_YET_VALID$/, "not-yet-valid", "the peer's certificate is not yet valid"],
  [
    /^(UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|CERT_UNTRUSTED|CERT_REJECTED|CERT_SIGNATURE_FAILURE)/,
    "untrusted",
    "untrusted issuer: no authority that is trusted here has signed the peer's certificate"
  ],
  [/^INVALID_PURPOSE$/, "wrong-purpose", "the peer's certificate is not made for this use"],
  [
    /^(INVALID_CA|PATH_LENGTH_EXCEEDED|CERT_CHAIN_TOO_LONG)$/,
    "untrusted",
    "the chain of the peer's certificate is not one that authorities may make"
  ],
  [/ALERT_CERTIFICATE_REQUIRED$/, "certificate-required", "the peer wants a certificate, and was shown none"],
  [/PEER_DID_NOT_RETURN_A_CERTIFICATE$/, "certificate-required", "the peer showed no certificate, and one is required"],
  [
    /ALERT_(UNKNOWN_CA|BAD_CERTIFICATE|UNSUPPORTED_CERTIFICATE|CERTIFICATE_(REVOKED|EXPIRED|UNKNOWN)|ACCESS_DENIED)$/,
    "certificate-refused",
    "the peer does not accept the certificate that it was shown, or wants one"
  ],
  [
    /ALERT_(PROTOCOL_VERSION|INSUFFICIENT_SECURITY)$|UNSUPPORTED_PROTOCOL$|NO_SHARED_CIPHER$|NO_PROTOCOLS_AVAILABLE$|VERSION_TOO_LOW$/,
    "version",
    "the peer speaks no protocol version, or no cipher, that is allowed here"
  ],
  [
    // All that servers up to TLS 1.2 say of either.
    /ALERT_HANDSHAKE_FAILURE$/,
    "version",
    "the peer found no protocol version or cipher in common, or wants a certificate"
  ],
  [
    /WRONG_VERSION_NUMBER$|PACKET_LENGTH_TOO_LONG$|HTTP_REQUEST$|HTTPS_PROXY_REQUEST$|NOT_SSL_RECORD|BAD_RECORD_TYPE$|UNEXPECTED_MESSAGE$|RECORD_TOO_LARGE$/,
    "not-tls",
    "the peer does not speak TLS"
  ],
  [/^(ECONNRESET|EPIPE|ECONNABORTED)$/, "closed", "the peer closed the connection in the TLS handshake"]
]

const closed = (cause: unknown): TlsFailed =>
  failed("closed", "the peer closed the connection in the TLS handshake", cause)

/**
 * A code of Node's. An alert that comes while something is written has none of its own: it is in OpenSSL's text then.
 */
const codeOf = (cause: unknown): string => {
  if (!(cause instanceof Error && "code" in cause && typeof cause.code === "string")) return String(cause)
  const alert = cause.code === "EPROTO" ? /SSL routines:[^:]*:([^:]+)/.exec(cause.message)?.[1] : undefined
  return alert === undefined ? cause.code : alert.toUpperCase().replaceAll(" ", "_")
}

/** What an error of Node's means; `undefined` for a code that says nothing about TLS. */
const known = (cause: unknown): TlsFailed | undefined => {
  const code = codeOf(cause)
  for (const [pattern, reason, what] of reasons) if (pattern.test(code)) return failed(reason, what, cause)
  return undefined
}

const explain = (cause: unknown): TlsFailed =>
  known(cause) ?? failed("other", cause instanceof Error ? cause.message : String(cause), cause)

/**
 * What an error of a socket that was secured says about TLS, `undefined` if nothing: in TLS 1.3 a server judges the
 * client's certificate after the client has finished its handshake, so that its verdict comes as an error of the open
 * connection.
 */
export const lateFailure = (cause: unknown): TlsFailed | undefined => {
  const fault = cause instanceof TlsFailed ? cause : known(cause)
  return fault?.reason === "closed" ? undefined : fault
}

const wrongName = (name: string, cause: Error, certificate: NodeTls.PeerCertificate): TlsFailed => {
  const { subject, subjectaltname } = certificate as Partial<NodeTls.PeerCertificate>
  const names = subjectaltname ?? subject?.CN ?? "no name"
  return failed("wrong-name", `name mismatch: the peer's certificate is for ${names}, and not for ${name}`, cause)
}

/** Until its new owner listens, a socket that breaks must not throw. */
const ignore = (): void => {}

const handshake = (
  run: Effect.Effect<NodeTls.TLSSocket, TlsFailed>,
  timeoutMillis: number
): Effect.Effect<NodeTls.TLSSocket, TlsFailed> =>
  Effect.timeoutOrElse(run, {
    duration: timeoutMillis,
    orElse: () => Effect.fail(failed("timeout", `no TLS handshake within ${timeoutMillis} ms`, undefined))
  })

/** What secures the connections of a client. */
export interface TlsClient {
  /**
   * The handshake on a connected socket that nobody reads any more; the socket's connection is the result's from then
   * on. Fails with `ConnectFailed` of phase `tls`, whose cause is a `TlsFailed`, and then, or when it is interrupted,
   * the socket is destroyed.
   */
  readonly secure: (socket: Net.Socket, endpoint: Endpoint) => Effect.Effect<NodeTls.TLSSocket, ConnectFailed>
  /** The options in force, for `describe`: paths, names and times, no content. */
  readonly description: Readonly<Record<string, unknown>>
}

/**
 * Checks the options and reads the files. `protocols` are offered to the server (ALPN), the best first; what it has chosen is the socket's
 * `alpnProtocol`. Default: none. Fails with an `InvalidOption` that names the option, as `tls.ca`, and never what is in it.
 */
export const client = (
  options: TlsClientOptions = {},
  protocols: ReadonlyArray<string> = []
): Effect.Effect<TlsClient, InvalidOption> =>
  Effect.gen(function*() {
    const { serverName } = options
    if (serverName !== undefined && (typeof serverName !== "string" || serverName === "")) {
      return yield* Effect.fail(
        new InvalidOption({ option: "tls.serverName", got: JSON.stringify(serverName), expected: "the name of a host" })
      )
    }
    const timeoutMillis = yield* durationMillis("tls.handshakeTimeout", options.handshakeTimeout, 5000, 1)
    const context = yield* reloading(options, (material) => NodeTls.createSecureContext(material))
    const secure = (socket: Net.Socket, name: string, secureContext: NodeTls.SecureContext) =>
      Effect.callback<NodeTls.TLSSocket, TlsFailed>((resume) => {
        if (socket.destroyed) return resume(Effect.fail(closed(socket.errored)))
        const secured = NodeTls.connect({
          socket,
          secureContext,
          ...(protocols.length === 0 ? {} : { ALPNProtocols: [...protocols] }),
          host: name,
          // An address is no server name (RFC 6066, 3).
          servername: Net.isIP(name) === 0 ? name : "",
          checkServerIdentity: (_, certificate) => {
            const mismatch = NodeTls.checkServerIdentity(name, certificate)
            return mismatch && wrongName(name, mismatch, certificate)
          }
        })
        const onError = (cause: Error) => {
          secured.destroy()
          resume(Effect.fail(cause instanceof TlsFailed ? cause : explain(cause)))
        }
        secured.on("error", ignore)
        secured.once("error", onError)
        secured.once("secureConnect", () => {
          secured.off("error", onError)
          resume(Effect.succeed(secured))
        })
        return Effect.sync(() => void secured.destroy())
      })
    return {
      secure: (socket, endpoint) => {
        const name = serverName ?? (Endpoint.isUnix(endpoint) ? "localhost" : endpoint.host)
        socket.on("error", ignore)
        return handshake(
          Effect.flatMap(context, (secureContext) => secure(socket, name, secureContext)),
          timeoutMillis
        ).pipe(
          Effect.mapError((cause) => new ConnectFailed({ endpoint, phase: "tls", cause })),
          Effect.onError(() => Effect.sync(() => void socket.destroy()))
        )
      },
      description: { ...describe(options, timeoutMillis), serverName: serverName ?? "the endpoint's host" }
    }
  })

/** What secures the connections of a server. */
export interface TlsServer {
  /**
   * The handshake on an accepted socket that nobody reads any more; its connection is the result's from then on. Fails
   * with `TlsFailed`, and then, or when it is interrupted, the socket is destroyed.
   */
  readonly secure: (socket: Net.Socket) => Effect.Effect<NodeTls.TLSSocket, TlsFailed>
  /** The options in force, for pages and logs: paths, names and times, no content. */
  readonly description: Readonly<Record<string, unknown>>
}

/**
 * Checks the options and reads the files. Fails with an `InvalidOption` that names the option, as `tls.key`, and never
 * what is in it.
 */
export const server = (options: TlsServerOptions): Effect.Effect<TlsServer, InvalidOption> =>
  Effect.gen(function*() {
    const clients = options.clients ?? "anonymous"
    const invalid = (option: string, got: unknown, expected: string) =>
      Effect.fail(new InvalidOption({ option, got, expected }))
    if (clients !== "anonymous" && clients !== "optional" && clients !== "required") {
      return yield* invalid("tls.clients", clients, "anonymous, optional or required")
    }
    if (options.certificate === undefined) {
      return yield* invalid("tls.certificate", undefined, "the server's certificate")
    }
    if (clients !== "anonymous" && options.ca === undefined) {
      return yield* invalid("tls.ca", undefined, `the authorities of clients whose certificate is ${clients}`)
    }
    if (clients === "anonymous" && options.ca !== undefined) {
      return yield* invalid("tls.ca", sourceOf(options.ca), "none while tls.clients is anonymous")
    }
    const timeoutMillis = yield* durationMillis("tls.handshakeTimeout", options.handshakeTimeout, 5000, 1)
    /** Handshakes by the socket they began on. */
    const pending = new Map<unknown, (result: Effect.Effect<NodeTls.TLSSocket, TlsFailed>) => void>()
    // It never listens: it is given sockets, which `node:tls` offers for this. What a client may do is decided in it, and not here.
    const sessions = NodeTls.createServer({
      requestCert: clients !== "anonymous",
      rejectUnauthorized: clients === "required"
    })
    const end = (secured: NodeTls.TLSSocket, result: Effect.Effect<NodeTls.TLSSocket, TlsFailed>): void => {
      const resume = pending.get(parentOf(secured))
      if (resume === undefined) secured.destroy()
      else resume(result)
    }
    sessions.on("secureConnection", (secured) => {
      secured.on("error", ignore)
      const fault = clients === "optional" && secured.getPeerX509Certificate() !== undefined && !secured.authorized
      end(secured, fault ? Effect.fail(explain(secured.authorizationError)) : Effect.succeed(secured))
    })
    sessions.on("tlsClientError", (cause, secured) => {
      secured.on("error", ignore)
      end(secured, Effect.fail(explain(secured.authorizationError ?? cause)))
    })
    const refresh = yield* reloading(options, (material) => {
      // Tickets of a client that has shown its certificate hold for this server only.
      sessions.setSecureContext({ ...material, sessionIdContext: "scales" })
    })
    const secure = (socket: Net.Socket) =>
      Effect.callback<NodeTls.TLSSocket, TlsFailed>((resume) => {
        if (socket.destroyed) return resume(Effect.fail(closed(socket.errored)))
        const leave = () => pending.delete(socket)
        pending.set(socket, (result) => {
          leave()
          resume(result)
        })
        sessions.emit("connection", socket)
        return Effect.sync(leave)
      })
    return {
      secure: (socket) => {
        socket.on("error", ignore)
        return handshake(Effect.andThen(refresh, secure(socket)), timeoutMillis).pipe(
          Effect.onError(() => Effect.sync(() => void socket.destroy()))
        )
      },
      description: { ...describe(options, timeoutMillis), clients }
    }
  })

/** Which socket a secured one was made of: Node keeps it here, and tells it nowhere else. */
const parentOf = (secured: NodeTls.TLSSocket): unknown => (secured as unknown as { readonly _parent: unknown })._parent

/**
 * What a TLS configuration is made of: PEM given or read from files, checked, and read again when the files have
 * changed.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Semaphore from "effect/Semaphore"
import * as Crypto from "node:crypto"
import * as Fs from "node:fs/promises"
import type * as TlsModule from "node:tls"
import { InvalidOption } from "../RpcError.ts"
import { codeOf, stampOf } from "./fileStamp.ts"
import { say } from "./say.ts"

/** PEM: as text, as bytes, or the path of a file, which is read again when it has changed. */
export type Pem = string | Uint8Array | { readonly path: string }

/** What both sides have. */
export interface MaterialOptions {
  readonly ca?: Pem | undefined
  readonly certificate?: Pem | undefined
  readonly key?: Pem | undefined
  readonly passphrase?: string | Redacted.Redacted | undefined
  readonly minVersion?: "TLSv1.2" | "TLSv1.3" | undefined
}

/** What `node:tls` makes a context of. */
export type Material = Pick<TlsModule.SecureContextOptions, "ca" | "cert" | "key" | "passphrase" | "minVersion">

/** A path as it may be shown: what was given in its place may be the secret itself. */
const shownPath = (path: string): string =>
  path.includes("\n") || path.includes("-----BEGIN") || path.length > 4096 ? "PEM where a path is expected" : path

/** Where a PEM comes from, and never what it is. */
export const sourceOf = (pem: Pem): string =>
  typeof pem === "string" ? "text" : pem instanceof Uint8Array ? "bytes" : shownPath(pem.path)

const invalid = (option: string, got: unknown, expected: string): Effect.Effect<never, InvalidOption> =>
  Effect.fail(new InvalidOption({ option, got, expected }))

const textOf = (option: string, pem: Pem): Effect.Effect<string, InvalidOption> =>
  typeof pem === "string"
    ? Effect.succeed(pem)
    : pem instanceof Uint8Array
    ? Effect.succeed(new TextDecoder().decode(pem))
    : typeof pem?.path === "string"
    ? Effect.tryPromise({
      try: () => Fs.readFile(pem.path, "utf8"),
      catch: (cause) =>
        new InvalidOption({ option, got: shownPath(pem.path), expected: `a file that can be read (${codeOf(cause)})` })
    })
    : invalid(option, typeof pem, "PEM as text, as bytes, or as { path }")

const certificateBlock = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g

const certificatesOf = (
  option: string,
  pem: Pem
): Effect.Effect<{ readonly text: string; readonly first: Crypto.X509Certificate }, InvalidOption> =>
  Effect.flatMap(textOf(option, pem), (text) => {
    const wrong = invalid(option, sourceOf(pem), "at least one certificate in PEM")
    const blocks = text.match(certificateBlock)
    if (blocks === null) return wrong
    try {
      const [first] = blocks.map((block) => new Crypto.X509Certificate(block))
      return Effect.succeed({ text, first: first! })
    } catch {
      return wrong
    }
  })

const keyOf = (
  option: string,
  pem: Pem,
  passphraseOption: string,
  passphrase: string | undefined
): Effect.Effect<{ readonly text: string; readonly key: Crypto.KeyObject }, InvalidOption> =>
  Effect.flatMap(textOf(option, pem), (text) => {
    const encrypted = text.includes("ENCRYPTED")
    if (encrypted && passphrase === undefined) {
      return invalid(passphraseOption, undefined, `the passphrase of ${option}, which is encrypted`)
    }
    try {
      return Effect.succeed({
        text,
        key: Crypto.createPrivateKey({ key: text, format: "pem", ...(passphrase !== undefined && { passphrase }) })
      })
    } catch {
      return encrypted
        ? invalid(passphraseOption, "one that does not open it", `the passphrase of ${option}`)
        : invalid(option, sourceOf(pem), "a private key in PEM")
    }
  })

/**
 * Reads and checks everything. Fails with an `InvalidOption` that names the option and says where it came from, never
 * what it was.
 */
export const read = (options: MaterialOptions): Effect.Effect<Material, InvalidOption> =>
  Effect.gen(function*() {
    const { ca, certificate, key, minVersion } = options
    const passphrase = Redacted.isRedacted(options.passphrase) ? Redacted.value(options.passphrase) : options.passphrase
    if (minVersion !== undefined && minVersion !== "TLSv1.2" && minVersion !== "TLSv1.3") {
      return yield* invalid("tls.minVersion", minVersion, "TLSv1.2 or TLSv1.3")
    }
    if (certificate === undefined && key !== undefined) {
      return yield* invalid("tls.certificate", undefined, "the certificate of tls.key")
    }
    if (key === undefined && certificate !== undefined) {
      return yield* invalid("tls.key", undefined, "the private key of tls.certificate")
    }
    const material: { -readonly [Key in keyof Material]: Material[Key] } = { minVersion: minVersion ?? "TLSv1.2" }
    if (ca !== undefined) material.ca = (yield* certificatesOf("tls.ca", ca)).text
    if (certificate !== undefined && key !== undefined) {
      const own = yield* certificatesOf("tls.certificate", certificate)
      const secret = yield* keyOf("tls.key", key, "tls.passphrase", passphrase)
      if (!own.first.checkPrivateKey(secret.key)) {
        return yield* invalid("tls.key", sourceOf(key), `the private key of tls.certificate (${sourceOf(certificate)})`)
      }
      material.cert = own.text
      material.key = secret.text
      if (passphrase !== undefined) material.passphrase = passphrase
    }
    return material
  })

const pathsOf = (options: MaterialOptions): ReadonlyArray<string> =>
  [options.ca, options.certificate, options.key].flatMap((pem) =>
    typeof pem === "object" && !(pem instanceof Uint8Array) ? [pem.path] : []
  )

/**
 * What a connection is secured with: made once, and again when a file it was made of has changed. `make` may throw when
 * `node:tls` does not like what passed the checks. Files that are broken now leave the last good one in force, with one
 * warning for each time they change.
 */
export const reloading = <A>(
  options: MaterialOptions,
  make: (material: Material) => A
): Effect.Effect<Effect.Effect<A>, InvalidOption> =>
  Effect.gen(function*() {
    const paths = pathsOf(options)
    const stamps = Effect.promise(async () => (await Promise.all(paths.map(stampOf))).join("\n"))
    const load = Effect.flatMap(read(options), (material) =>
      Effect.try({
        try: () => make(material),
        catch: (cause) => new InvalidOption({ option: "tls", got: codeOf(cause), expected: "what node:tls accepts" })
      }))
    // Before the files are read: written in between, they are read once more than needed.
    let seen = yield* stamps
    let current = yield* load
    if (paths.length === 0) return Effect.succeed(current)
    const one = Semaphore.makeUnsafe(1)
    const reload = Effect.gen(function*() {
      const stamp = yield* stamps
      if (stamp === seen) return current
      current = yield* Effect.catch(load, (error) =>
        Effect.as(
          say("warning", "changed TLS files cannot be used, the old ones stay in force", { cause: error.message }),
          current
        ))
      // Not before: whoever comes meanwhile waits for what is new, and one that is given up has not taken the news with it.
      seen = stamp
      return current
    })
    return Effect.flatMap(stamps, (stamp) => stamp === seen ? Effect.succeed(current) : one.withPermit(reload))
  })

/** What `describe` may show. */
export const describe = (options: MaterialOptions, handshakeTimeoutMillis: number) => ({
  ca: options.ca && sourceOf(options.ca),
  certificate: options.certificate && sourceOf(options.certificate),
  minVersion: options.minVersion ?? "TLSv1.2",
  handshakeTimeoutMillis
})

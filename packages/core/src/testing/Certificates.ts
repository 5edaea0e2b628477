/**
 * Certificates for tests of TLS, made on the spot with `node:crypto` alone: an authority, and what it signs. X.509 (RFC
 * 5280) with keys on the curve P-256; not for production, where a certificate comes from a real authority.
 */
import * as Crypto from "node:crypto"
import * as Net from "node:net"

/** A certificate and its private key, both in PEM, the key as PKCS#8. */
export interface Certified {
  readonly certificate: string
  readonly key: string
}

/** What is written in a certificate. */
export interface CertificateOptions {
  /** The common name. Default `localhost`. */
  readonly name?: string | undefined
  /** Host names and IPv4 addresses it is for. Default `localhost` and 127.0.0.1. */
  readonly hosts?: ReadonlyArray<string> | undefined
  /** Default: an hour ago. */
  readonly notBefore?: Date | undefined
  /** Default: in a day. */
  readonly notAfter?: Date | undefined
  /** Encrypts the private key with it. Default: the key is not encrypted. */
  readonly passphrase?: string | undefined
}

/** Signs certificates. */
export interface Authority {
  /** Its own certificate, in PEM: what those who trust it have as `ca`. */
  readonly certificate: string
  /** Makes a key, and a certificate for it that is good for servers and clients. */
  readonly issue: (options?: CertificateOptions) => Certified
}

const der = (tag: number, ...parts: ReadonlyArray<Uint8Array>): Uint8Array => {
  const body = Buffer.concat(parts)
  const length = body.length < 0x80
    ? [body.length]
    : body.length < 0x100
    ? [0x81, body.length]
    : [0x82, body.length >> 8, body.length & 0xff]
  return Buffer.concat([Buffer.from([tag, ...length]), body])
}

const sequence = (...parts: ReadonlyArray<Uint8Array>) => der(0x30, ...parts)
const oid = (hex: string) => der(0x06, Buffer.from(hex, "hex"))
const boolean = der(0x01, Buffer.from([0xff]))
const octets = (content: Uint8Array) => der(0x04, content)
const bits = (content: Uint8Array) => der(0x03, Buffer.from([0]), content)
const text = (tag: number, value: string) => der(tag, Buffer.from(value, "utf8"))

const ecdsaWithSha256 = sequence(oid("2a8648ce3d040302"))

/** A name with one part, the common name. */
const nameOf = (name: string) => sequence(der(0x31, sequence(oid("550403"), text(0x0c, name))))

/** UTCTime to 2049, GeneralizedTime from 2050 on (RFC 5280, 4.1.2.5). */
const timeOf = (date: Date) => {
  const digits = `${date.toISOString().replace(/\D/g, "").slice(0, 14)}Z`
  return date.getUTCFullYear() < 2050 ? text(0x17, digits.slice(2)) : text(0x18, digits)
}

const addressOf = (host: string) => Buffer.from(host.split(".").map(Number))

const alternativeNames = (hosts: ReadonlyArray<string>) =>
  sequence(
    oid("551d11"),
    octets(sequence(...hosts.map((host) => Net.isIPv4(host) ? der(0x87, addressOf(host)) : text(0x82, host))))
  )

/** May sign others. */
const isAuthority = sequence(oid("551d13"), boolean, octets(sequence(boolean)))

const pemOf = (label: string, content: Uint8Array) =>
  `-----BEGIN ${label}-----\n${
    Buffer.from(content).toString("base64").replace(/.{1,64}/g, "$&\n")
  }-----END ${label}-----\n`

const sign = (
  options: CertificateOptions,
  extension: Uint8Array,
  keys: Crypto.KeyPairKeyObjectResult,
  issuer: { readonly name: string; readonly key: Crypto.KeyObject }
): string => {
  const now = Date.now()
  const serial = Crypto.randomBytes(16)
  // Positive, and without a zero in front.
  serial[0] = (serial[0]! & 0x3f) | 0x40
  const body = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, serial),
    ecdsaWithSha256,
    nameOf(issuer.name),
    sequence(
      timeOf(options.notBefore ?? new Date(now - 3_600_000)),
      timeOf(options.notAfter ?? new Date(now + 86_400_000))
    ),
    nameOf(options.name ?? "localhost"),
    keys.publicKey.export({ type: "spki", format: "der" }),
    der(0xa3, sequence(extension))
  )
  return pemOf("CERTIFICATE", sequence(body, ecdsaWithSha256, bits(Crypto.sign("sha256", body, issuer.key))))
}

const localHosts = ["localhost", "127.0.0.1"]

const keyPair = () => Crypto.generateKeyPairSync("ec", { namedCurve: "P-256" })

const keyOf = (keys: Crypto.KeyPairKeyObjectResult, passphrase: string | undefined): string =>
  keys.privateKey.export({
    type: "pkcs8",
    format: "pem",
    ...(passphrase !== undefined && { cipher: "aes-256-cbc", passphrase })
  }) as string

/** Makes a certificate that nobody has signed but itself. */
export const selfSigned = (options: CertificateOptions = {}): Certified => {
  const keys = keyPair()
  const issuer = { name: options.name ?? "localhost", key: keys.privateKey }
  return {
    certificate: sign(options, alternativeNames(options.hosts ?? localHosts), keys, issuer),
    key: keyOf(keys, options.passphrase)
  }
}

/** Makes an authority that nobody trusts yet; `name` is its common name. */
export const authority = (name = "test authority"): Authority => {
  const keys = keyPair()
  const issuer = { name, key: keys.privateKey }
  return {
    certificate: sign({ name }, isAuthority, keys, issuer),
    issue: (options = {}) => {
      const own = keyPair()
      return {
        certificate: sign(options, alternativeNames(options.hosts ?? localHosts), own, issuer),
        key: keyOf(own, options.passphrase)
      }
    }
  }
}

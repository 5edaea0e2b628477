/**
 * Reads an access list over a connection of its own, in ZooKeeper's protocol: the addon has a call for it too, but dereferences null, and so ends
 * the process, whenever the answer is none (no such node, not permitted, connection lost).
 */
import * as Redacted from "effect/Redacted"
import { connect, type Socket } from "node:net"
import type { Acl, Stat } from "../Session.ts"
import { codeOf } from "./codes.ts"
import type { Credentials } from "./NativeClient.ts"
import type { Answer } from "./Requests.ts"

/** Whom to ask, and what to show. */
export interface AclSource {
  /** Asked in this order until one can be reached. */
  readonly addresses: ReadonlyArray<{ readonly address: string; readonly port: number }>
  /** For all of it. */
  readonly timeoutMillis: number
  readonly auth: ReadonlyArray<Credentials>
}

/** By ZooKeeper's bits, from the lowest. */
const permissions = "rwcda"

/** No answer to what is asked is longer: what says it is, is no ZooKeeper. */
const maxFrame = 4 * 2 ** 20

const int = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}

const sized = (...parts: ReadonlyArray<Buffer>): Buffer => {
  const all = Buffer.concat(parts)
  return Buffer.concat([int(all.length), all])
}

const text = (value: string): Buffer => sized(Buffer.from(value))

const request = (xid: number, type: number, ...parts: ReadonlyArray<Buffer>): Buffer =>
  sized(int(xid), int(type), ...parts)

const readXid = 2

/** A session that lasts no longer than the question: all of it can be sent before the first answer comes. */
const question = (path: string, { auth, timeoutMillis }: AclSource): Buffer =>
  Buffer.concat([
    // Version, last zxid seen, timeout, session, password, not read-only.
    sized(int(0), Buffer.alloc(8), int(timeoutMillis), Buffer.alloc(8), sized(Buffer.alloc(16)), Buffer.alloc(1)),
    ...auth.map(({ credentials, scheme }) =>
      request(-4, 100, int(0), text(scheme), text(Redacted.value(credentials) as string))
    ),
    // The server may be behind the one that the session is connected to.
    request(1, 9, text(path)),
    request(readXid, 6, text(path)),
    request(3, -11)
  ])

/** Reads fields one after the other; reading past the end throws. */
class Fields {
  readonly #bytes: Buffer
  #at = 0
  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }
  int(): number {
    this.#at += 4
    return this.#bytes.readInt32BE(this.#at - 4)
  }
  long(): bigint {
    this.#at += 8
    return this.#bytes.readBigInt64BE(this.#at - 8)
  }
  text(): string {
    const length = this.int()
    if (length < 0 || this.#at + length > this.#bytes.length) throw new RangeError("a text is longer than its frame")
    this.#at += length
    return this.#bytes.toString("utf8", this.#at - length, this.#at)
  }
}

const aclOf = (fields: Fields): { readonly acl: ReadonlyArray<Acl>; readonly stat: Stat } => {
  const count = fields.int()
  const acl: Array<Acl> = []
  for (let index = 0; index < count; index++) {
    const bits = fields.int()
    const scheme = fields.text()
    const id = fields.text()
    acl.push({ scheme, id, permissions: [...permissions].filter((_, bit) => (bits & (1 << bit)) !== 0).join("") })
  }
  const [createdZxid, modifiedZxid, created, modified] = [fields.long(), fields.long(), fields.long(), fields.long()]
  const [version, childrenVersion, aclVersion, owner] = [fields.int(), fields.int(), fields.int(), fields.long()]
  const [dataLength, childCount, childrenZxid] = [fields.int(), fields.int(), fields.long()]
  const stat: Stat = {
    version,
    childrenVersion,
    aclVersion,
    created: Number(created),
    modified: Number(modified),
    createdZxid: Number(createdZxid),
    modifiedZxid: Number(modifiedZxid),
    childrenZxid: Number(childrenZxid),
    dataLength,
    childCount,
    owner: owner === 0n ? undefined : BigInt.asUintN(64, owner).toString(16)
  }
  return { acl, stat }
}

/** Asks, and answers once, with -4 when nobody can be reached in time. The result ends it without an answer. */
export const readAcl = (
  source: AclSource,
  path: string,
  answer: Answer<{ readonly acl: ReadonlyArray<Acl>; readonly stat: Stat }>
): () => void => {
  const asking: { socket: Socket | undefined; ended: boolean } = { socket: undefined, ended: false }
  const end = (): boolean => {
    const first = !asking.ended
    asking.ended = true
    clearTimeout(timer)
    asking.socket?.destroy()
    return first
  }
  const timer = setTimeout(() => end() && answer(codeOf("ConnectionLoss")), source.timeoutMillis)

  const ask = (index: number): void => {
    const target = source.addresses[index]
    if (target === undefined) {
      if (end()) answer(codeOf("ConnectionLoss"))
      return
    }
    let received = Buffer.alloc(0)
    let handshaken = false
    const current = connect({ host: target.address, port: target.port })
    asking.socket = current
    current.on("error", () => current.destroy())
    current.on("close", () => asking.ended ? undefined : ask(index + 1))
    current.on("connect", () => current.write(question(path, source)))
    current.on("data", (chunk) => {
      received = Buffer.concat([received, chunk])
      while (!asking.ended && received.length >= 4) {
        const length = received.readInt32BE()
        if (length < 0 || length > maxFrame) return void current.destroy()
        if (received.length < 4 + length) return
        const fields = new Fields(received.subarray(4, 4 + length))
        received = received.subarray(4 + length)
        if (!handshaken) handshaken = true
        else if (!reply(fields)) return void current.destroy()
      }
    })
  }

  /** Whether the connection is still of use. */
  const reply = (fields: Fields): boolean => {
    try {
      const xid = fields.int()
      fields.long()
      const code = fields.int()
      if (xid !== readXid) return true
      if (code !== 0) {
        if (end()) answer(code)
        return false
      }
      const result = aclOf(fields)
      if (end()) answer(0, result)
    } catch {
      // A frame that ends too soon is not ZooKeeper's: the next server may be one.
      return false
    }
    return true
  }

  ask(0)
  return () => void end()
}

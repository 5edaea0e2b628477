/**
 * Reads an access list over a connection of its own, in ZooKeeper's protocol: the addon has a call for it too, but dereferences null, and so ends
 * the process, whenever the answer is none (no such node, not permitted, connection lost).
 */
import * as Redacted from "effect/Redacted"
import type { Acl, Stat } from "../Session.ts"
import type { Addresses } from "./addresses.ts"
import { askInTurn } from "./askInTurn.ts"
import { codeOf } from "./codes.ts"
import type { Credentials } from "./NativeClient.ts"
import type { Answer } from "./Requests.ts"

/** Whom to ask, and what to show. */
export interface AclSource {
  /** Asked in this order until one answers. */
  readonly addresses: Addresses
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

/** Asks, and answers once, with -4 when nobody answers in time. The result ends it without an answer. */
export const readAcl = (
  source: AclSource,
  path: string,
  answer: Answer<{ readonly acl: ReadonlyArray<Acl>; readonly stat: Stat }>
): () => void => {
  const end = askInTurn({
    addresses: source.addresses,
    timeoutMillis: source.timeoutMillis,
    nobody: () => answer(codeOf("ConnectionLoss")),
    ask: (socket) => {
      let received = Buffer.alloc(0)
      let handshaken = false
      socket.on("connect", () => socket.write(question(path, source)))
      socket.on("data", (chunk) => {
        received = Buffer.concat([received, chunk])
        while (!socket.destroyed && received.length >= 4) {
          const length = received.readInt32BE()
          if (length < 0 || length > maxFrame) return void socket.destroy()
          if (received.length < 4 + length) return
          const fields = new Fields(received.subarray(4, 4 + length))
          received = received.subarray(4 + length)
          if (!handshaken) handshaken = true
          else if (!reply(fields)) return void socket.destroy()
        }
      })
    }
  })

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

  return () => void end()
}

/** A DNS server for tests, over UDP and TCP on one port of 127.0.0.1: what a zone of the test's says. */
import { Effect, type Scope } from "effect"
import { createSocket } from "node:dgram"
import * as Net from "node:net"

/** What is said of a name. `rcode`: 2 is SERVFAIL, 3 NXDOMAIN, 5 REFUSED, for one type of records or all; `silent` says nothing. */
export interface Records {
  readonly ttl?: number
  readonly A?: ReadonlyArray<string>
  readonly AAAA?: ReadonlyArray<string>
  readonly SRV?: ReadonlyArray<readonly [priority: number, weight: number, port: number, target: string]>
  readonly rcode?: number | { readonly A?: number; readonly AAAA?: number }
  readonly silent?: boolean
}

const types: Readonly<Record<number, "A" | "AAAA" | "SRV">> = { 1: "A", 28: "AAAA", 33: "SRV" }

const nameBytes = (name: string): Buffer =>
  Buffer.concat([
    ...name.split(".").filter((label) => label !== "").map((label) =>
      Buffer.concat([Buffer.from([label.length]), Buffer.from(label)])
    ),
    Buffer.from([0])
  ])

const v6Bytes = (address: string): Buffer => {
  const [head = "", tail = ""] = address.split("::")
  const groups = (text: string) => text === "" ? [] : text.split(":").map((group) => parseInt(group, 16))
  const before = groups(head)
  const after = groups(tail)
  const all = [...before, ...Array<number>(8 - before.length - after.length).fill(0), ...after]
  return Buffer.from(all.flatMap((group) => [group >> 8, group & 0xff]))
}

const shorts = (...values: ReadonlyArray<number>): Buffer => {
  const bytes = Buffer.alloc(values.length * 2)
  for (const [at, value] of values.entries()) bytes.writeUInt16BE(value, at * 2)
  return bytes
}

/** A server; names that its zone does not have do not exist. */
export class DnsServer {
  readonly address: string
  readonly zone: Map<string, Records>
  /** All that was asked, as `name TYPE`. */
  readonly asked: ReadonlyArray<string>

  private constructor(address: string, zone: Map<string, Records>, asked: ReadonlyArray<string>) {
    this.address = address
    this.zone = zone
    this.asked = asked
  }

  /** Serves until the scope closes. */
  static readonly make: Effect.Effect<DnsServer, never, Scope.Scope> = Effect.gen(function*() {
    const zone = new Map<string, Records>()
    const asked: Array<string> = []

    /** The answer to a question, cut for UDP when it is longer than `room`. */
    const answer = (query: Buffer, room: number): Buffer | undefined => {
      const labels: Array<string> = []
      let at = 12
      while (query[at] !== 0) {
        labels.push(query.toString("latin1", at + 1, at + 1 + query[at]!))
        at += query[at]! + 1
      }
      const type = types[query.readUInt16BE(at + 1)]!
      const question = query.subarray(12, at + 5)
      const name = labels.join(".").toLowerCase()
      asked.push(`${name} ${type}`)
      const records = zone.get(name)
      if (records?.silent === true) return undefined
      const given = records?.rcode
      const rcode = records === undefined ? 3 : typeof given === "object" ? given[type as "A"] ?? 0 : given ?? 0
      const data = rcode !== 0
        ? []
        : type === "A"
        ? (records?.A ?? []).map((address) => Buffer.from(address.split(".").map(Number)))
        : type === "AAAA"
        ? (records?.AAAA ?? []).map(v6Bytes)
        : (records?.SRV ?? []).map(([priority, weight, port, target]) =>
          Buffer.concat([shorts(priority, weight, port), nameBytes(target)])
        )
      const ttl = Buffer.alloc(4)
      ttl.writeUInt32BE(records?.ttl ?? 30)
      const whole = (all: ReadonlyArray<Buffer>, cut: number) =>
        Buffer.concat([
          query.subarray(0, 2),
          shorts(0x8580 | cut | rcode, 1, all.length, 0, 0),
          question,
          ...all.flatMap((bytes) => [
            shorts(0xc00c, question.readUInt16BE(question.length - 4), 1),
            ttl,
            shorts(bytes.length),
            bytes
          ])
        ])
      const reply = whole(data, 0)
      return reply.length <= room ? reply : whole([], 0x0200)
    }

    const bind = Effect.callback<{ readonly port: number; readonly close: () => void }, Error>((resume) => {
      const udp = createSocket("udp4", (query, { address, port }) => {
        const reply = answer(query, 512)
        if (reply !== undefined) udp.send(reply, port, address)
      })
      const sockets = new Set<Net.Socket>()
      const tcp = Net.createServer((socket) => {
        sockets.add(socket)
        let received = Buffer.alloc(0)
        socket.on("error", () => {}).on("close", () => sockets.delete(socket)).on("data", (bytes) => {
          received = Buffer.concat([received, bytes])
          while (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
            const end = 2 + received.readUInt16BE(0)
            const reply = answer(received.subarray(2, end), 65_535)
            received = received.subarray(end)
            if (reply !== undefined) socket.write(Buffer.concat([shorts(reply.length), reply]))
          }
        })
      })
      udp.bind(0, "127.0.0.1", () => {
        const { port } = udp.address()
        tcp.once("error", (error) => {
          udp.close()
          resume(Effect.fail(error))
        })
        tcp.listen(port, "127.0.0.1", () =>
          resume(Effect.succeed({
            port,
            close: () => {
              udp.close()
              tcp.close()
              for (const socket of sockets) socket.destroy()
            }
          })))
      })
    })
    const { port } = yield* Effect.acquireRelease(
      // The system gives a port that is free for UDP; for TCP it may be taken.
      Effect.orDie(Effect.retry(bind, { times: 20 })),
      ({ close }) => Effect.sync(close)
    )
    return new DnsServer(`127.0.0.1:${port}`, zone, asked)
  })
}

/** The same frames to Finagle's server and to ours: both answer alike, byte for byte. */
import { type RawConnection, RawPeer } from "@scales-rpc/mux/testing"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import assert from "node:assert/strict"
import { type Case, holds, theme } from "../Suite.ts"
import * as Tap from "../Tap.ts"
import { serve, serveBodies } from "./ours.ts"
import { type Peers, shared } from "./peers.ts"

const closes: unique symbol = Symbol("closes")

/**
 * What a client does: frames in hexadecimal that it sends, and how many messages it then waits for. At the end it pings, so that an
 * answer too many is seen, or it waits for the server to close.
 */
type Script = ReadonlyArray<string | number | typeof closes>

const tagOfLastPing = 99

/** A frame in hexadecimal, of a body in hexadecimal. */
const frame = (type: number, tag: number, body: string = ""): string =>
  Tap.frame(type, tag, Buffer.from(body, "hex")).toString("hex")

const utf8 = (text: string): string => Buffer.from(text).toString("hex")

const uint = (value: number, bytes: number): string => value.toString(16).padStart(2 * bytes, "0")

const sized = (text: string, bytes: number): string => uint(Buffer.byteLength(text), bytes) + utf8(text)

const probe = frame(127, 1, utf8("tinit check"))
const tinit = (headers: string, version = 1, tag = 1): string => frame(68, tag, uint(version, 2) + headers)
const window = (value: string): string => sized("mux-framer", 4) + uint(value.length / 2, 4) + value
const tls = (level: string): string => sized("tls", 4) + sized(level, 4)
const handshake: Script = [probe, 1, tinit(window("7fffffff") + tls("off")), 1]
const tping = (tag: number): string => frame(65, tag)
const rdrain = (tag: number): string => frame(-64, tag)
const tdispatch = (tag: number, body: string, destination = "", dtab = "0000"): string =>
  frame(2, tag, `0000${sized(destination, 2)}${dtab}${body}`)
const treq = (tag: number, body: string, keys = "00"): string => frame(1, tag, keys + body)
const tdiscarded = (which: number, why: string, type = -62): string => frame(type, 0, uint(which, 3) + utf8(why))
const fragment = (type: number, tag: number, body: string): string => frame(type, 0x80_0000 | tag, body)
/** A Treq's trace id (span 1, parent 2, trace 3) and its flags. */
const tracedKeys = `020118${uint(1, 8)}${uint(2, 8)}${uint(3, 8)}020101`

/** Requests of one protocol. */
interface Bodies {
  readonly echo: string
  readonly slow: string
  readonly nack: string
}

const bare: Bodies = { echo: utf8("hello"), slow: utf8("slow:60000"), nack: utf8("nack") }

const thriftCall = (method: string, fields: string): string => `80010001${sized(method, 4)}00000007${fields}00`

const thrift: Bodies = {
  echo: thriftCall("ping", ""),
  slow: thriftCall("slow", `080001${uint(60_000, 4)}`),
  nack: thriftCall("passMessage", `0c00010b0001${sized("nack", 4)}0a0002${uint(0, 8)}0f000308${uint(0, 4)}00`)
}

const scripts = ({ echo, nack, slow }: Bodies): Readonly<Record<string, Script>> => ({
  handshake: [...handshake, tdispatch(2, echo), 1],
  "handshake: the probe in its canonical type": [frame(-128, 1, utf8("tinit check")), 1, tinit(""), 1],
  "handshake: another text, another tag": [
    frame(127, 1, utf8("tinit cheque")),
    1,
    frame(127, 2, utf8("tinit check")),
    1
  ],
  "handshake: a Tinit without a probe, and a second one": [tinit(""), 1, ...handshake.slice(0, 2), tinit(""), 1],
  "handshake: a second Tinit": [...handshake, tinit(""), 1],
  "handshake: Tinit with tag 5, no headers, one that nobody knows": [
    probe,
    1,
    tinit(sized("nonesuch", 4) + sized("x", 4), 1, 5),
    1
  ],
  "handshake: version 2": [probe, 1, tinit("", 2), 1, closes],
  "handshake: a window of 0": [probe, 1, tinit(window("00000000")), 2, closes],
  "handshake: a negative window": [probe, 1, tinit(window("ffffffff")), 2, closes],
  "handshake: a window of 1 byte's length": [probe, 1, tinit(window("05")), 2, closes],
  "handshake: TLS required": [probe, 1, tinit(tls("required")), 2, closes],
  "handshake: TLS desired, which neither has": [probe, 1, tinit(tls("desired")), 1],
  "handshake: none, a Tdispatch first": [tdispatch(2, echo), 1, tdispatch(3, echo), 1],
  "handshake: none, a Tping first": [tping(5), 1, tdispatch(2, echo), 1],
  "handshake: given up after the probe": [probe, 1, tdispatch(2, echo), 1],
  "requests: tags from 2 to the last, destination and dtab": [
    ...handshake,
    tdispatch(2, echo, "/svc/echo"),
    1,
    tdispatch(0x7f_ffff, echo, "", `0001${sized("/a", 2)}${sized("/b", 2)}`),
    1
  ],
  "requests: Treq, with a trace and without": [...handshake, treq(2, echo), 1, treq(3, echo, tracedKeys), 1],
  "nacks: of a Tdispatch, of a Treq": [...handshake, tdispatch(2, nack), 1, treq(2, nack), 1],
  "fragments: a request of three": [
    ...handshake,
    fragment(2, 2, "0000000000"),
    fragment(2, 2, `00${echo.slice(0, 8)}`),
    frame(2, 2, echo.slice(8)),
    1
  ],
  "fragments: a reply in the window of 5 bytes": [probe, 1, tinit(window("00000005")), 1, tdispatch(2, echo), 1],
  "discards: of what nobody knows, in both types": [...handshake, tdiscarded(7, "why"), tdiscarded(8, "why", 66)],
  "discards: of what runs, in both types; the tag is free": [
    ...handshake,
    tdispatch(2, slow),
    tdiscarded(2, "why"),
    1,
    tdispatch(2, slow),
    tdiscarded(2, "why", 66),
    1,
    tdispatch(2, echo),
    1
  ],
  "Rerr: to every message that is none of a client's, and the session goes on": [
    ...handshake,
    ...[
      frame(64, 4),
      frame(-64, 1),
      frame(-65, 6),
      frame(67, 0, `00${uint(1000, 8)}`),
      frame(-68, 7, "0001"),
      frame(-66, 8),
      frame(-2, 9, "000000"),
      frame(-1, 10, "00"),
      frame(127, 11, utf8("oh")),
      frame(-128, 12, utf8("oh"))
    ].flatMap((sent) => [sent, 1]),
    tdispatch(2, echo),
    1
  ],
  "Rerr: to the request whose tag is used twice": [...handshake, tdispatch(2, slow), tdispatch(2, echo), 1, closes],
  "Rerr: to all that run when a tag is used twice": [
    ...handshake,
    tdispatch(2, slow),
    tdispatch(3, slow),
    treq(4, slow),
    tdispatch(3, echo),
    3,
    closes
  ],
  "closed without a word: a type that nobody knows": [...handshake, frame(3, 2, "01"), closes],
  "closed without a word: a frame of 3 bytes": [...handshake, "00000003020000", closes],
  "closed without a word: a destination that is no path": [...handshake, tdispatch(2, echo, "nope"), closes],
  "closed without a word: a dtab that is none": [
    ...handshake,
    tdispatch(2, echo, "", `0001${sized("x", 2)}${sized("y", 2)}`),
    closes
  ],
  "closed without a word: a short Tdiscarded": [...handshake, frame(-62, 0, "0000"), closes],
  "closed without a word: a short Tlease": [...handshake, frame(67, 0, "0000"), closes],
  "closed without a word: a Treq with a trace id of 3 bytes": [
    ...handshake,
    treq(2, echo, "010103000000"),
    closes
  ]
})

/** Plays a script; gives the frames that came. Those of one wait are sorted: a server may answer several requests in any order. */
const play = (connection: RawConnection, script: Script) =>
  Effect.gen(function*() {
    const frames: Array<string> = []
    let seen = 0
    const came = () => {
      frames.push(...connection.frames.slice(seen).toSorted())
      seen = connection.frames.length
    }
    for (const step of script) {
      if (step === closes) yield* connection.ended
      else if (typeof step === "string") connection.write(step)
      else {
        for (let i = 0; i < step; i++) yield* connection.next()
        came()
      }
    }
    if (script.at(-1) !== closes) {
      connection.write(tping(tagOfLastPing))
      while ((yield* connection.next("Rping")).tag !== tagOfLastPing);
    }
    came()
    assert.equal(connection.fault, undefined)
    return frames
  })

const playAt = (port: number, script: Script) =>
  Effect.scoped(Effect.flatMap(RawPeer.connect({ port }), (connection) => play(connection, script)))

/** Both servers' side of a drain: asked of `drain` while a request runs. */
const drained = (port: number, { echo, slow }: Bodies, drain: Effect.Effect<unknown, unknown>) =>
  Effect.scoped(
    Effect.gen(function*() {
      const connection = yield* RawPeer.connect({ port })
      const before = yield* play(connection, [...handshake, tdispatch(2, slow)])
      yield* Effect.forkChild(drain, { startImmediately: true })
      // Tdrain; served until the client agrees; an agreement with another tag is none; nacked from there on; closed after the last.
      const after = yield* play(connection, [
        1,
        tdispatch(3, echo),
        1,
        rdrain(5),
        1,
        rdrain(1),
        tdispatch(3, echo),
        1,
        treq(4, echo),
        1,
        tdiscarded(2, "why"),
        1,
        closes
      ])
      return [...before, ...after]
    })
  )

/** A server of Finagle's and one of ours, of one protocol. */
interface Both {
  readonly finagle: {
    readonly port: number
    readonly drainSessions: (millis: number) => Effect.Effect<void, unknown>
  }
  readonly ours: {
    readonly port: number
    readonly server: { readonly sessions: () => ReadonlyArray<{ readonly drain: () => Effect.Effect<void> }> }
  }
}

const alike = <R>(
  bodies: Bodies,
  both: Effect.Effect<Both, unknown, R>
): ReadonlyArray<Case<Exclude<R, Scope.Scope>>> => [
  ...Object.entries(scripts(bodies)).map(([name, script]) =>
    holds(
      name,
      Effect.gen(function*() {
        const { finagle, ours } = yield* both
        const expected = yield* playAt(finagle.port, script)
        assert.deepEqual(yield* playAt(ours.port, script), expected)
      })
    )
  ),
  holds(
    "drain: served until the client agrees, nacked after that, closed with the last reply",
    Effect.gen(function*() {
      const { finagle, ours } = yield* both
      const expected = yield* drained(finagle.port, bodies, finagle.drainSessions(60_000))
      const drainOurs = Effect.suspend(() => Effect.forEach(ours.server.sessions(), (session) => session.drain()))
      assert.deepEqual(yield* drained(ours.port, bodies, drainOurs), expected)
    })
  ),
  holds(
    "but for a request of which a part has come and that is discarded: ours says that its tag is free, Finagle's nothing",
    Effect.gen(function*() {
      const { finagle, ours } = yield* both
      const begun = [...handshake, fragment(2, 2, "0000000000"), tdiscarded(2, "why")]
      // At both the next request with this tag is served, and nothing of the first is in front of it.
      const again = [tdispatch(2, bodies.echo), 1]
      const expected = yield* playAt(finagle.port, [...begun, ...again])
      assert.deepEqual(yield* playAt(ours.port, [...begun, 1, ...again]), expected.toSpliced(2, 0, frame(-66, 2)))
    })
  )
]

export const exchanges = [
  ...theme<Peers>(
    "exchanges with thriftmux 22.7",
    alike(thrift, Effect.all({ finagle: shared("second"), ours: serve() }))
  ),
  ...theme<Peers>(
    "exchanges with mux 24.2",
    alike(bare, Effect.all({ finagle: shared("body"), ours: serveBodies() }))
  )
]

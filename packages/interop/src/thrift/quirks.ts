/**
 * What libraries of Apache's get wrong and ours does not: the bytes of both sides. Where theirs can still be read, ours reads it; when
 * a case fails because theirs has changed, it has been put right there.
 */
import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { type Case, holds, theme } from "../Suite.ts"
import { notFinite } from "./checks.ts"
import { connect24 } from "./clients.ts"
import { type Library, type Peers, shared } from "./peers.ts"
import * as Recorder from "./recorder.ts"
import { plainWays, type Way } from "./ways.ts"

/** A client of ours of a library's server, and what passes between them. */
const recorded = (library: Library, way: Way) =>
  Effect.gen(function*() {
    const server = yield* shared(`${library} server`)
    const recorder = yield* Recorder.make(server.port(way))
    const { client } = yield* connect24(way, recorder.port)
    return { client, recorder }
  })

/** How each protocol writes -0, and what follows it in a request. */
const minusZero = {
  binary: Buffer.from("800000000000000000", "hex"),
  compact: Buffer.from("000000000000008000", "hex"),
  json: Buffer.from("-0.0}}]")
}

const signOfZero = plainWays.map((way) =>
  holds(
    `${way.name}: the npm package reads -0 as 0, which has left us with its sign`,
    Effect.gen(function*() {
      const { client, recorder } = yield* recorded("npm", way)
      const answered = yield* client.testDouble(-0)
      assert.deepEqual(recorder.requests().subarray(-minusZero[way.protocol].length), minusZero[way.protocol])
      assert.ok(Object.is(answered, 0), "theirs is wrong")
    })
  )
)

/** How a library writes to JSON what is not finite, in which it is wrong: the protocol has strings for these. */
const bare: Readonly<Record<"npm" | "Python", ReadonlyArray<string>>> = {
  npm: ["NaN", "Infinity", "-Infinity"],
  Python: ["nan", "inf", "-inf"]
}

const unquoted = (library: "npm" | "Python") =>
  plainWays.filter(({ protocol }) => protocol === "json").map((way) =>
    holds(
      `${way.name}: ${library} writes ${bare[library].join(", ")} without quotes, we write them with, and read both`,
      Effect.gen(function*() {
        const { client, recorder } = yield* recorded(library, way)
        for (const [i, double] of notFinite.entries()) {
          assert.ok(Object.is(yield* client.testDouble(double), double))
          assert.ok(recorder.requests().toString().endsWith(`{"dbl":"${double}"}}]`), "ours are strings")
          assert.ok(recorder.replies().toString().endsWith(`{"dbl":${bare[library][i]}}}]`), "theirs is wrong")
        }
      })
    )
  )

/** The cases of one library. */
export const quirksOf = (library: Library): ReadonlyArray<Case<Peers>> => {
  switch (library) {
    case "npm":
      return theme<Peers>("npm is wrong here", [...signOfZero, ...unquoted(library)])
    case "Python":
      return theme<Peers>("Python is wrong here", unquoted(library))
    case "Java":
      return []
  }
}

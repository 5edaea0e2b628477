/** Many calls and many sessions: every reply is checked, whatever is given up around it. */
import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { Full, holds, theme } from "../Suite.ts"
import { connectBody } from "./body.ts"
import { checkedCall, connect, uriOf } from "./echo.ts"
import { type Peers, shared } from "./peers.ts"
import { noneLost, result } from "./results.ts"

/** Calls of each case: 100,000 over the four in CI, as many in each with `--full`. */
const callsOf = (share: number) => Effect.map(Full, (full) => full ? 100_000 : share)

/** Of 100 calls so many are given up. */
const discards = 20

/** No body is larger. */
const largest = 8000

const concurrency = 64

/** Numbers from 0 to 1 that a seed determines: Marsaglia's xorshift. */
const randomOf = (seed: number): () => number => {
  let state = seed
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) / 2 ** 32
  }
}

/** The i-th body: its number again and again, so that it is like no other of its length. */
const bodyOf = (i: number, random: () => number): Buffer => Buffer.alloc(Math.floor(random() * largest), `${i}:`)

/** Calls that are checked, some of them given up: before they leave, after it, or when they are answered already. */
const mixed = (calls: number, send: (body: Buffer) => Effect.Effect<Uint8Array, unknown>) =>
  Effect.gen(function*() {
    const random = randomOf(20_260_101)
    let answered = 0
    const one = (i: number) =>
      Effect.suspend(() => {
        const body = bodyOf(i, random)
        const checked = Effect.map(send(body), (reply) => {
          // Not deepEqual: it would print both.
          assert.ok(body.equals(reply), `call ${i}: ${body.length} bytes came back changed`)
          answered++
        })
        if (random() * 100 >= discards) return checked
        const turns = Math.floor(random() * 4)
        const later = turns === 3 ? Effect.sleep("1 millis") : Effect.repeat(Effect.yieldNow, { times: turns })
        return Effect.raceFirst(checked, later)
      })
    yield* Effect.forEach(Array.from({ length: calls }, (_, i) => i), one, { concurrency, discard: true })
    return answered
  })

/** Some were given up while they were under way, no other was lost, and nothing is held. */
const accounted = (calls: number, answered: number, state: (role: string) => any) => {
  assert.ok(answered >= calls * (100 - discards - 1) / 100, `${answered} of ${calls} were answered`)
  const { discards: discarded, sessions } = state("transport")
  assert.ok(discarded > calls / 100, `${discarded} of ${calls} were discarded`)
  assert.deepEqual(sessions.map(({ outstanding }: any) => outstanding), [0])
  assert.deepEqual(state("balancer").endpoints.map(({ load }: any) => load), [0])
}

const finagleLoad = { concurrency, discards, seed: 7 }

/** So many clients at once. */
const clients = 50

/** And so many calls of each. */
const callsEach = 20

const numbers = (count: number) => Array.from({ length: count }, (_, i) => i)

export const load = theme<Peers>("load", [
  holds(
    "random sizes and random discards: our client, Finagle's ThriftMux server",
    Effect.gen(function*() {
      const { echo, state } = yield* connect(uriOf(yield* shared("echo")))
      const calls = yield* callsOf(30_000)
      yield* echo.ping()
      accounted(calls, yield* mixed(calls, echo.blob), state)
      yield* echo.ping()
    }),
    "3 minutes"
  ),
  holds(
    "random sizes and random discards: our client, Finagle's Mux server",
    Effect.gen(function*() {
      const { send, state, text } = yield* connectBody(uriOf(yield* shared("body")))
      const calls = yield* callsOf(20_000)
      yield* text("first")
      accounted(calls, yield* mixed(calls, send), state)
      yield* text("last")
    }),
    "3 minutes"
  ),
  holds(
    "random sizes and random discards: Finagle's ThriftMux client, our server",
    Effect.gen(function*() {
      const { client, server } = yield* shared("ours")
      const requests = yield* callsOf(30_000)
      const before = server.counts.discards
      const [answered, given] = yield* Effect.all([
        client.load(["passMessage", `{} {x:${largest}}`, "{}", "{},{}"], { ...finagleLoad, requests }),
        client.load(["slow", 60_000], { requests: requests / 10, concurrency, discards: 100 })
      ], { concurrency: 2 })
      noneLost(answered)
      noneLost(given)
      assert.equal(given.discarded, requests / 10)
      assert.ok(answered.discarded > requests / 100, `${answered.discarded} of ${requests} were discarded`)
      assert.ok(server.counts.discards - before > requests / 20)
      assert.equal(result(yield* client.call(["ping"])), "pong")
      assert.equal(server.outstanding(), 0)
    }),
    "3 minutes"
  ),
  holds(
    "random sizes and random discards: Finagle's Mux client, our server",
    Effect.gen(function*() {
      const { client, server } = yield* shared("ourBodies")
      const requests = yield* callsOf(20_000)
      const answered = yield* client.load([`{} {x:${largest}}`], { ...finagleLoad, requests })
      noneLost(answered)
      assert.ok(answered.discarded > requests / 100, `${answered.discarded} of ${requests} were discarded`)
      assert.equal(result(yield* client.call(["last"])).text, "last")
      assert.equal(server.outstanding(), 0)
    }),
    "3 minutes"
  ),
  holds(
    `${clients} clients of ours at one server of Finagle's, each with a session of its own`,
    Effect.gen(function*() {
      const server = yield* shared("echo")
      const before = (yield* server.stats).sessionsEver
      const all = yield* Effect.forEach(numbers(clients), () => connect(uriOf(server)), { concurrency: "unbounded" })
      yield* Effect.forEach(
        all,
        ({ echo }, client) =>
          Effect.forEach(numbers(callsEach), (i) => checkedCall(echo, client * callsEach + i), { concurrency: 4 }),
        {
          concurrency: "unbounded"
        }
      )
      const { sessions, sessionsEver } = yield* server.stats
      assert.equal(sessionsEver - before, clients)
      const own = sessions.filter(({ session }) => session > before)
      assert.deepEqual(own.map(({ in: frames }) => frames["Tdispatch"]), Array(clients).fill(callsEach))
    })
  ),
  holds(
    `${clients} clients of Finagle's at one server of ours, each with a session of its own`,
    Effect.gen(function*() {
      const { client, server } = yield* shared("ours")
      const before = server.counts.sessions
      const loads = yield* Effect.forEach(
        numbers(clients),
        (i) =>
          client.load(["passMessage", "text {}", "{}", "{},{}"], {
            clientId: `client.${i}`,
            requests: callsEach,
            concurrency: 4
          }),
        { concurrency: "unbounded" }
      )
      for (const one of loads) noneLost(one)
      assert.equal(server.counts.sessions - before, clients)
      assert.ok(server.sessions().length >= clients)
    })
  )
])

/** The suite that every balancer is held to, over every balancer of ours; and that it catches those that are not what they should be. */
import { assert, describe, it } from "@effect/vitest"
import { Aperture, DeterministicAperture, HeapBalancer, P2C, PeakEwma, RoundRobin } from "@scales-rpc/core"
import { BalancerConformance } from "@scales-rpc/core/testing"
import { Effect } from "effect"
import { layer, type Mistake } from "./planted.ts"

const held = (
  name: string,
  make: BalancerConformance.MakeBalancer,
  options?: BalancerConformance.ConformanceOptions
) =>
  describe(name, () => {
    for (const each of BalancerConformance.cases(make, options)) it.effect(each.name, () => each.run)
  })

const wait = { whenEmpty: "wait" } as const
const place = { instance: 1, instances: 3 }

held("HeapBalancer", HeapBalancer.layer, { waiting: (family) => HeapBalancer.layer(family, wait) })
held("P2C", P2C.layer, { waiting: (family) => P2C.layer(family, wait) })
held("PeakEwma", PeakEwma.layer, { waiting: (family) => PeakEwma.layer(family, wait) })
held("RoundRobin", RoundRobin.layer, { waiting: (family) => RoundRobin.layer(family, wait) })
held("Aperture", Aperture.layer, { waiting: (family) => Aperture.layer(family, wait), uses: "some" })
held("DeterministicAperture", (family) => DeterministicAperture.layer(family, place), {
  waiting: (family) => DeterministicAperture.layer(family, { ...place, ...wait })
})
held(
  "DeterministicAperture with a part of the set",
  (family) => DeterministicAperture.layer(family, { ...place, minAperture: 2 }),
  { uses: "some", spreads: false, weights: false }
)
held("a balancer written over the contracts alone", layer())

/** Each mistake with the beginning of the name of the case that is about it. */
const caught: Readonly<Record<Mistake, string>> = {
  "leaks load on interruption": "load counts attempts, whatever ends them",
  "leaks load on a defect": "load counts attempts, whatever ends them",
  "counts no load": "load counts attempts, whatever ends them",
  "begins outside of what ends it": "an interruption leaves nothing behind, whichever step the call is at",
  "hears no abort while it waits": "a call waits for the first state no longer than until its abort",
  "leaves its listener on the abort": "a call waits for the first state of the set",
  "sends what is aborted": "a call that was aborted before it is sent",
  "sends before it is run": "sending describes",
  "mixes replies up": "every call gets the reply to its own request",
  "ends an attempt before its body": "a response that outlives its exchange",
  "ignores what was tried": "a call goes to another endpoint than those it was tried at",
  "ignores status": "an endpoint that is down gets no call",
  "takes busy for well": "an endpoint that is busy gets no call",
  "locks out what is down": "an endpoint that is down gets no call",
  "locks out a call when all are down": "with all endpoints down calls are sent all the same",
  "sends to what has left": "an endpoint that has left gets no new call",
  "closes what drains": "an endpoint that has left gets no new call",
  "never closes what has left": "an endpoint that has left gets no new call",
  "opens a sink a state": "a new weight changes an endpoint in place",
  "takes an endpoint twice for two": "the same endpoint twice in a state is one",
  "ignores new weights": "a new weight changes an endpoint in place",
  "ignores weights": "weights are respected",
  "waits for an empty set": "an empty set, and one that does not exist, fail a call at once",
  "forgets the cause": "a set that could not be found out",
  "forgets the set when it is stale": "what is stale changes nothing",
  "does not wait for the first state": "a call waits for the first state of the set",
  "has no status": "the status of the whole",
  "notifies late": "the status of the whole",
  "never opens": "opening waits for the first state, opens one at least",
  "opens one only": "opening that is refused goes on to another endpoint",
  "opens what has left": "opening does not go on to an endpoint that has left",
  "keeps calls waiting when it is closed": "closing ends every wait",
  "looks open when it is closed": "closing closes every sink once",
  "sends all to the first": "concurrent calls spread",
  "takes chance from elsewhere": "the same seed gives the same picks",
  "registers nothing": "it registers as the stack's balancer",
  "leaves a timer": "it registers as the stack's balancer",
  "leaves a fiber": "it registers as the stack's balancer",
  "waits to be built": "it registers as the stack's balancer"
}

describe("a balancer is found out that", () => {
  for (const [mistake, beginning] of Object.entries(caught) as ReadonlyArray<[Mistake, string]>) {
    it.effect(mistake, () =>
      Effect.gen(function*() {
        const [about, ...others] = BalancerConformance.cases(layer(mistake), { seed: 7 }).filter(({ name }) =>
          name.startsWith(beginning)
        )
        assert.isDefined(about)
        assert.lengthOf(others, 0)
        const failure = yield* Effect.flip(about!.run)
        assert.deepInclude(failure, { _tag: "ConformanceFailure", case: about!.name, seed: 7 } as never)
        assert.notStrictEqual(failure.expected, failure.seen)
      }))
  }
})

describe("the suite", () => {
  it("leaves out what a balancer is not held to, and says each thing once", () => {
    const names = (options?: BalancerConformance.ConformanceOptions) =>
      BalancerConformance.cases(layer(), { waiting: layer(), ...options }).map(({ name }) => name)
    const all = names()
    assert.strictEqual(new Set(all).size, all.length)
    const without = (options: BalancerConformance.ConformanceOptions) => {
      const left = names(options)
      return all.filter((name) => !left.includes(name)).map((name) => name.split(/[:,]/)[0])
    }
    assert.deepStrictEqual(without({ waiting: undefined }), ["a call waits for an endpoint in an empty set"])
    assert.lengthOf(without({ schedules: 0 }), 1)
    assert.deepStrictEqual(without({ weights: false }), ["weights are respected"])
    assert.deepStrictEqual(without({ repeats: false }), ["the same seed gives the same picks"])
    assert.deepStrictEqual(without({ uses: "some" }), ["calls one after another reach every endpoint"])
    assert.deepStrictEqual(without({ spreads: false }), [
      "calls one after another reach every endpoint",
      "concurrent calls spread",
      "no endpoint starves"
    ])
  })

  it.effect("names the seed of a schedule that fails, which repeats it alone", () =>
    Effect.gen(function*() {
      for (
        const mistake of ["leaks load on a defect", "closes what drains", "leaves its listener on the abort"] as const
      ) {
        const fails = (options: BalancerConformance.ConformanceOptions) => {
          const cases = BalancerConformance.cases(layer(mistake), options)
          return Effect.flip(cases.find(({ name }) => name.startsWith("any schedule"))!.run)
        }
        const found = yield* fails({ seed: 40 })
        const again = yield* fails({ seed: found.seed, schedules: 1 })
        assert.strictEqual(again.message, found.message)
        assert.include(found.message, `(seed ${found.seed})`)
      }
    }))

  it.effect("takes a balancer that cannot be built for one that fails", () =>
    Effect.gen(function*() {
      const never = { whenEmpty: "never" as never }
      const [first] = BalancerConformance.cases((family) => HeapBalancer.layer(family, never))
      const failure = yield* Effect.flip(first!.run)
      assert.deepInclude(failure, { what: "how the case ends", expected: "it runs through", seed: 1 } as never)
      assert.match(failure.seen, /^InvalidOption: .*whenEmpty/)
    }))
})

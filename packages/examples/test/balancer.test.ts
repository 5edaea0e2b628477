/** The balancer of the examples is held to what every balancer is. */
import { describe, it } from "@effect/vitest"
import { CallContext } from "@scales-rpc/core"
import { BalancerConformance } from "@scales-rpc/core/testing"
import { byKey, Key } from "../src/balancer.ts"

describe("balancer.ts, with a key on each call", () => {
  const cases = BalancerConformance.cases(byKey, {
    waiting: (family) => byKey(family, { whenEmpty: "wait" }),
    context: (call) => CallContext.of([{ key: Key, value: `user ${call}` }]),
    spreads: false
  })
  for (const { name, run } of cases) it.effect(name, () => run)
})

describe("balancer.ts, with calls of one key", () => {
  const cases = BalancerConformance.cases(byKey, {
    context: () => CallContext.of([{ key: Key, value: "user" }]),
    spreads: false,
    weights: false
  })
  for (const { name, run } of cases) it.effect(name, () => run)
})

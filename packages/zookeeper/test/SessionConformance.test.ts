import { it } from "@effect/vitest"
import { Context, Effect, Layer, Scope } from "effect"
import { FakeZooKeeper } from "../src/testing/FakeZooKeeper.ts"
import * as SessionConformance from "../src/testing/SessionConformance.ts"
import { ZooKeeper } from "../src/ZooKeeper.ts"

const scope = Scope.makeUnsafe()
const context = Effect.runSync(Layer.buildWithScope(FakeZooKeeper.layer(), scope))
let made = 0
const make = Effect.suspend(() => Context.get(context, ZooKeeper).session(`zk${++made}`))

for (const { name, run } of SessionConformance.cases(make)) it.effect(`the fake: ${name}`, () => run)

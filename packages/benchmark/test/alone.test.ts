/** What is measured alone comes to numbers that can be, in processes of their own that end. */
import { assert, describe, it } from "@effect/vitest"
import { measureBuild } from "../src/alone/build.ts"
import { measureIdle } from "../src/alone/idle.ts"
import { Isolated, isolated } from "../src/alone/isolated.ts"
import { startServers } from "../src/alone/muxServers.ts"
import { measurePick, pickSizes } from "../src/alone/pick.ts"
import { measureSoak } from "../src/alone/soak.ts"

const quiet = (): void => {}
const url = (file: string): string => new URL(`../src/alone/${file}`, import.meta.url).href

describe("a process of its own", () => {
  it("rejects with what was thrown there", async () => {
    const error = await isolated(url("pick.ts"), { balancer: "none", rounds: 1, millis: 1 }).then(
      () => undefined,
      String
    )
    assert.include(error, "not a function")
  })

  it("rejects when it ends by itself, now and when it is asked again", async () => {
    const child = new Isolated<unknown, unknown>(url("../statistics.ts"))
    for (let time = 0; time < 2; time++) {
      assert.include(await child.ask({}).then(() => undefined, String), "statistics.ts ended with code 0")
    }
    await child.stop()
  })

  it("is gone once it is stopped", async () => {
    const servers = await startServers(2)
    assert.strictEqual(new Set(servers.ports).size, 2)
    await servers.stop()
    const error = await fetch(`http://127.0.0.1:${servers.ports[0]}`).then(
      () => undefined,
      (cause: Error) => cause.cause
    )
    assert.strictEqual((error as NodeJS.ErrnoException).code, "ECONNREFUSED")
  })
})

describe("alone", { timeout: 120_000 }, () => {
  it("a pick of the default balancer is measured among each number of endpoints", async () => {
    const { costs, ratios } = await measurePick("quick", quiet)
    assert.deepStrictEqual(costs.map(({ endpoints }) => endpoints), [...pickSizes])
    for (const { micros, sendMicros } of costs) assert.isTrue(micros.median > 0 && micros.median < sendMicros.median)
    assert.strictEqual(ratios.pick10kMicros, costs[2]!.micros.median)
    assert.strictEqual(ratios.pickGrowth, costs[2]!.micros.median / costs[0]!.micros.median)
  })

  it("an idle endpoint costs more than its address and less than a connection", async () => {
    const { ratios } = await measureIdle("quick", quiet)
    assert.isTrue(ratios.idleEndpointBytes > 1000 && ratios.idleEndpointBytes < 20_000, `${ratios.idleEndpointBytes}`)
  })

  it("a stack is built and closed", async () => {
    const [cost] = await measureBuild("quick", quiet)
    assert.isTrue(cost!.buildMillis.median > 0 && cost!.buildMillis.median < cost!.firstMillis)
  })

  it("there is no soak in a quick run", async () => {
    assert.isUndefined(await measureSoak("quick", quiet))
  })
})

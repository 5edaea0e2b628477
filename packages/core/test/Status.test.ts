import { assert, describe, it } from "@effect/vitest"
import { ConnectionClosed, Endpoint, rank, type SinkState, StatusCell } from "@scales-rpc/core"

const fault = new ConnectionClosed({ endpoint: Endpoint.tcp("h", 1), reached: "maybe", cause: "reset" })

describe("a status", () => {
  it("calls nobody on subscribing, then everybody after each change", () => {
    const status = new StatusCell("Idle")
    const log: Array<string> = []
    status.subscribe(() => log.push(`a:${status.state}`))
    status.subscribe(() => log.push(`b:${status.state}`))
    assert.deepStrictEqual(log, [])
    status.set("Open")
    status.set("Closed", fault)
    assert.deepStrictEqual(log, ["a:Open", "b:Open", "a:Closed", "b:Closed"])
    assert.strictEqual(status.fault, fault)
  })

  it("tells nobody when nothing changed, and everybody when only the fault did", () => {
    const status = new StatusCell("Closed", fault)
    let heard = 0
    status.subscribe(() => heard++)
    status.set("Closed", fault)
    assert.strictEqual(heard, 0)
    status.set("Closed")
    assert.strictEqual(heard, 1)
    assert.isUndefined(status.fault)
  })

  it("lets no listener hear an older state after a newer one when a listener changes it again", () => {
    const status = new StatusCell("Idle")
    const log: Array<string> = []
    status.subscribe(() => {
      log.push(`a:${status.state}`)
      if (status.state === "Open") status.set("Busy")
    })
    status.subscribe(() => {
      log.push(`b:${status.state}`)
      if (status.state === "Busy") status.set("Closed", fault)
    })
    status.subscribe(() => log.push(`c:${status.state}`))
    status.set("Open")
    const order: ReadonlyArray<SinkState> = ["Open", "Busy", "Closed"]
    for (const name of ["a", "b", "c"]) {
      const states = log.filter((line) => line.startsWith(name)).map((line) =>
        order.indexOf(line.slice(2) as SinkState)
      )
      assert.deepStrictEqual(states, states.toSorted((x, y) => x - y))
      assert.strictEqual(states.at(-1), 2, `${name} heard of the last state`)
    }
  })

  it("does not call a listener that another one took off during the notification", () => {
    const status = new StatusCell("Idle")
    const log: Array<string> = []
    const subscriptions: Array<() => void> = []
    subscriptions.push(status.subscribe(() => {
      log.push("a")
      subscriptions[1]!()
    }))
    subscriptions.push(status.subscribe(() => log.push("b")))
    subscriptions.push(status.subscribe(() => log.push("c")))
    status.set("Open")
    assert.deepStrictEqual(log, ["a", "c"])
    assert.strictEqual(status.listeners, 2)
  })

  it("goes on to the next listener when one takes itself off", () => {
    const status = new StatusCell("Idle")
    const log: Array<string> = []
    const off = status.subscribe(() => {
      log.push("a")
      off()
    })
    status.subscribe(() => log.push("b"))
    status.set("Open")
    status.set("Busy")
    assert.deepStrictEqual(log, ["a", "b", "b"])
  })

  it("does not call one that subscribes during a notification until the next change", () => {
    const status = new StatusCell("Idle")
    const log: Array<string> = []
    const off = status.subscribe(() => {
      off()
      status.subscribe(() => log.push(status.state))
    })
    status.set("Open")
    assert.deepStrictEqual(log, [])
    status.set("Busy")
    assert.deepStrictEqual(log, ["Busy"])
  })

  it("keeps two subscriptions of one function apart, and ends each once", () => {
    const status = new StatusCell("Idle")
    let heard = 0
    const f = () => void heard++
    const first = status.subscribe(f)
    status.subscribe(f)
    first()
    first()
    assert.strictEqual(status.listeners, 1)
    status.set("Open")
    assert.strictEqual(heard, 1)
  })

  it("notifies again after a listener threw", () => {
    const status = new StatusCell("Idle")
    let heard = 0
    const off = status.subscribe(() => {
      throw new Error("a listener's own")
    })
    status.subscribe(() => heard++)
    assert.throws(() => status.set("Open"), "a listener's own")
    off()
    status.set("Busy")
    assert.strictEqual(heard, 1)
  })

  it("ranks Idle and Open alike, then Busy, then Closed", () => {
    assert.deepStrictEqual((["Idle", "Open", "Busy", "Closed"] as const).map(rank), [0, 0, 1, 2])
  })
})

import { assert, describe, it } from "@effect/vitest"
import {
  type Attempt,
  beginAttempt,
  classifyExit,
  ConnectionClosed,
  Endpoint,
  Nacked,
  type Outcome,
  ServerFailed,
  settleAttempt,
  Timeout,
  Unsendable
} from "@scales-rpc/core"
import { Cause, Exit } from "effect"
import { makeCall } from "./support.ts"

const endpoint = Endpoint.tcp("h", 1)
const nacked = new Nacked({ endpoint, why: "busy", retryable: true })
const broken = new ConnectionClosed({ endpoint, reached: "maybe", cause: "reset" })

/** An attempt, on a clock that the test sets, and what its hook heard. */
const begin = (call = makeCall()) => {
  const clock = { now: 1_000 }
  const attempt = beginAttempt(call, endpoint, () => clock.now)
  const heard: Array<[outcome: Outcome, millis: number]> = []
  attempt.onEnd((outcome, millis) => heard.push([outcome, millis]))
  return { attempt, call, clock, heard }
}

describe("an attempt", () => {
  it("runs its hooks once when it ends, the last registered first, with the time it took", () => {
    const { attempt, clock } = begin()
    const log: Array<string> = []
    for (const name of ["a", "b", "c"]) attempt.onEnd((outcome, millis) => log.push(`${name}:${outcome}:${millis}`))
    clock.now += 25
    settleAttempt(attempt, Exit.succeed("reply"))
    settleAttempt(attempt, Exit.fail(broken))
    assert.deepStrictEqual(log, ["c:success:25", "b:success:25", "a:success:25"])
  })

  it("notes its endpoint in the call, for every copy of the call, and counts from 0", () => {
    const call = makeCall()
    const copy = { ...call, method: "other" }
    const first = beginAttempt(call, endpoint, () => 0)
    const second = beginAttempt(copy, Endpoint.tcp("h", 2), () => 0)
    assert.deepStrictEqual([first.number, second.number], [0, 1])
    assert.deepStrictEqual(call.tried.map(({ key }) => key), ["h:1", "h:2"])
    assert.strictEqual(second.method, "other")
  })

  it("is one attempt however often it is copied", () => {
    const { attempt, heard } = begin()
    const copy: Attempt = { ...attempt, method: "copied" }
    const again: Attempt = { ...copy, idempotent: true }
    const log: Array<string> = []
    copy.onEnd((outcome) => log.push(outcome))
    const release = again.hold()
    settleAttempt(attempt, Exit.succeed("head"))
    assert.deepStrictEqual(log, [])
    release("success")
    settleAttempt(copy, Exit.fail(broken))
    assert.deepStrictEqual(log, ["success"])
    assert.deepStrictEqual(heard, [["success", 0]])
  })
})

describe("a held attempt", () => {
  it("that fails, or whose reply is judged a failure, gives back every hold", () => {
    const ends: ReadonlyArray<readonly [Outcome, Exit.Exit<unknown, unknown>]> = [
      ["failure", Exit.fail(broken)],
      ["failure", Exit.succeed("an error in disguise")],
      ["rejected", Exit.succeed("a refusal in disguise")]
    ]
    for (const [outcome, exit] of ends) {
      const call = makeCall({ classify: () => outcome })
      const attempt = beginAttempt(call, endpoint, () => 0)
      const log: Array<string> = []
      attempt.onEnd((outcome) => log.push(outcome))
      const releases = [attempt.hold(), attempt.hold()]
      settleAttempt(attempt, exit)
      for (const release of releases) release("success")
      assert.deepStrictEqual([log, call.abort.held, call.abort.listeners], [[outcome], false, 0])
    }
  })

  it("that one of its holders fails lets go of the others", () => {
    const call = makeCall()
    const attempt = beginAttempt(call, endpoint, () => 0)
    const releases = [attempt.hold(), attempt.hold(), attempt.hold()]
    settleAttempt(attempt, Exit.succeed("head"))
    releases[0]!("success")
    releases[1]!("failure")
    assert.deepStrictEqual([call.abort.held, call.abort.listeners], [false, 0])
    releases[2]!("success")
    assert.deepStrictEqual([call.abort.held, call.abort.listeners], [false, 0])
  })

  it("ends when its body ends, not when its head came", () => {
    const { attempt, clock, heard } = begin()
    const release = attempt.hold()
    settleAttempt(attempt, Exit.succeed("head"))
    assert.deepStrictEqual(heard, [])
    clock.now += 300
    release("success")
    release("failure")
    assert.deepStrictEqual(heard, [["success", 300]])
  })

  it("that has ended holds nothing of its call", () => {
    const { attempt, heard } = begin()
    settleAttempt(attempt, Exit.fail(broken))
    const release = attempt.hold()
    assert.isFalse(attempt.abort.held)
    assert.strictEqual(attempt.abort.listeners, 0)
    release("success")
    assert.lengthOf(heard, 1)
  })

  it("ends with its call, whoever holds it, and lets go of it", () => {
    const { attempt, heard } = begin()
    attempt.hold()
    attempt.hold()
    settleAttempt(attempt, Exit.succeed("head"))
    let released = 0
    attempt.abort.whenReleased(() => released++)
    attempt.abort.abort({ _tag: "Timeout", timeoutMillis: 5 })
    assert.deepStrictEqual(heard, [["failure", 0]])
    assert.deepStrictEqual([released, attempt.abort.held, attempt.abort.listeners], [1, false, 0])
  })

  it("ends as its body does when that fails", () => {
    for (const outcome of ["failure", "ignored", "rejected"] as const) {
      const { attempt, heard } = begin()
      const release = attempt.hold()
      settleAttempt(attempt, Exit.succeed("head"))
      release(outcome)
      assert.deepStrictEqual(heard, [[outcome, 0]])
    }
  })

  it("ends with the last of several holds, or the first that fails", () => {
    const { attempt, heard } = begin()
    const first = attempt.hold()
    const second = attempt.hold()
    settleAttempt(attempt, Exit.succeed("head"))
    first("success")
    first("success")
    assert.deepStrictEqual(heard, [])
    second("success")
    assert.deepStrictEqual(heard, [["success", 0]])

    const failing = begin()
    const one = failing.attempt.hold()
    const other = failing.attempt.hold()
    settleAttempt(failing.attempt, Exit.succeed("head"))
    other("failure")
    one("success")
    assert.deepStrictEqual(failing.heard, [["failure", 0]])
  })

  it("ends with its exchange when the body was over before the head was out", () => {
    const { attempt, heard } = begin()
    attempt.hold()("success")
    assert.deepStrictEqual(heard, [])
    settleAttempt(attempt, Exit.succeed("head"))
    assert.deepStrictEqual(heard, [["success", 0]])
  })

  it("ends at once when its exchange fails, whatever a classifier makes of that", () => {
    for (const [classified, expected] of [["failure", "failure"], ["success", "success"]] as const) {
      const { attempt, heard } = begin(makeCall({ classify: () => classified }))
      const release = attempt.hold()
      settleAttempt(attempt, Exit.fail(broken))
      assert.deepStrictEqual(heard, [[expected, 0]])
      release("failure")
      assert.lengthOf(heard, 1)
    }
  })
})

describe("the outcome of an attempt", () => {
  const outcome = (exit: Exit.Exit<unknown, unknown>, reason?: "Timeout" | "Superseded" | "StackClosed"): Outcome => {
    const { attempt, call, heard } = begin()
    if (reason === "Timeout") call.abort.abort({ _tag: reason, timeoutMillis: 5 })
    else if (reason === "StackClosed") call.abort.abort({ _tag: reason, stack: "s" })
    else if (reason !== undefined) call.abort.abort({ _tag: reason })
    settleAttempt(attempt, exit)
    assert.lengthOf(heard, 1)
    return heard[0]![0]
  }
  const timeout = new Timeout({ timeoutMillis: 5, waiting: "reply", reached: "maybe", endpoint, cause: undefined })

  it("is a failure of the endpoint when the call timed out", () => {
    assert.strictEqual(outcome(Exit.fail(timeout), "Timeout"), "failure")
    assert.strictEqual(outcome(Exit.interrupt(1), "Timeout"), "failure")
  })

  it("says nothing of the endpoint when the call was superseded, or its client closed", () => {
    for (const reason of ["Superseded", "StackClosed"] as const) {
      assert.strictEqual(outcome(Exit.interrupt(1), reason), "ignored")
      assert.strictEqual(outcome(Exit.fail(broken), reason), "ignored")
    }
  })

  it("says nothing of the endpoint when the caller went away", () => {
    assert.strictEqual(outcome(Exit.interrupt(1)), "ignored")
  })

  it("is a success when the reply came before the abort was heard", () => {
    for (const reason of ["Timeout", "Superseded", "StackClosed"] as const) {
      assert.strictEqual(outcome(Exit.succeed("reply"), reason), "success")
    }
  })

  it("is the call's own classifier's when nothing was aborted", () => {
    for (const classified of ["success", "failure", "rejected", "ignored"] as const) {
      const { attempt, heard } = begin(makeCall({ classify: () => classified }))
      settleAttempt(attempt, Exit.succeed("declared exception"))
      assert.deepStrictEqual(heard, [[classified, 0]])
    }
  })

  it("is a failure when the classifier itself breaks, and the defect is not hidden", () => {
    const classify = () => {
      throw new Error("the classifier's own")
    }
    const { attempt, heard } = begin(makeCall({ classify }))
    assert.throws(() => settleAttempt(attempt, Exit.succeed("reply")), "the classifier's own")
    assert.deepStrictEqual(heard, [["failure", 0]])
  })
})

describe("the classifier of any protocol", () => {
  it("takes a reply for a success and what never ran for rejected", () => {
    assert.strictEqual(classifyExit(Exit.succeed(1)), "success")
    assert.strictEqual(classifyExit(Exit.fail(nacked)), "rejected")
    assert.strictEqual(
      classifyExit(Exit.fail(new ServerFailed({ endpoint, why: "", retryable: false, rejected: true }))),
      "rejected"
    )
  })

  it("takes what may have run, a defect and a stranger's failure for failures", () => {
    for (const error of [broken, new Error("x"), "text", null, undefined, { reached: "maybe" }]) {
      assert.strictEqual(classifyExit(Exit.fail(error)), "failure")
    }
    assert.strictEqual(classifyExit(Exit.die(nacked)), "failure")
  })

  it("ignores an interruption, not a failure beside one", () => {
    assert.strictEqual(classifyExit(Exit.interrupt(1)), "ignored")
    assert.strictEqual(classifyExit(Exit.fail(new Unsendable({ what: "too large", cause: undefined }))), "ignored")
    assert.strictEqual(classifyExit(Exit.failCause(Cause.combine(Cause.fail(broken), Cause.interrupt(1)))), "failure")
  })
})

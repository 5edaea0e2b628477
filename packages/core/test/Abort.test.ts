import { assert, describe, it } from "@effect/vitest"
import { Abort, abortFailure, type AbortListener, type AbortReason, Endpoint } from "@scales-rpc/core"

const superseded: AbortReason = { _tag: "Superseded" }
const closed: AbortReason = { _tag: "StackClosed", stack: "s" }

/** A listener that writes its name and the reason it heard. */
const listener = (log: Array<string>, name: string, then?: () => void): AbortListener => ({
  onAbort: (reason) => {
    log.push(`${name}:${reason._tag}`)
    then?.()
  }
})

describe("an abort", () => {
  it("tells every listener once, with the reason already set", () => {
    const abort = new Abort(Infinity, Infinity)
    const log: Array<string> = []
    const seen: Array<AbortReason | undefined> = []
    for (const name of ["a", "b", "c"]) abort.on(listener(log, name, () => seen.push(abort.reason)))
    abort.abort(superseded)
    abort.abort(superseded)
    assert.deepStrictEqual(log.toSorted(), ["a:Superseded", "b:Superseded", "c:Superseded"])
    assert.deepStrictEqual(seen, [superseded, superseded, superseded])
    assert.strictEqual(abort.listeners, 0)
  })

  it("keeps the first reason", () => {
    const abort = new Abort(5, 5)
    const log: Array<string> = []
    abort.on(listener(log, "a"))
    abort.abort(closed)
    abort.fire()
    assert.strictEqual(abort.reason, closed)
    assert.deepStrictEqual(log, ["a:StackClosed"])
  })

  it("keeps the first reason when a listener aborts again", () => {
    const abort = new Abort(Infinity, Infinity)
    const log: Array<string> = []
    abort.on(listener(log, "a", () => abort.abort(superseded)))
    abort.on(listener(log, "b"))
    abort.abort(closed)
    assert.strictEqual(abort.reason, closed)
    assert.deepStrictEqual(log, ["a:StackClosed", "b:StackClosed"])
  })

  it("is a timeout of its own length when the deadline queue fires it", () => {
    const abort = new Abort(1_500, 250)
    abort.fire()
    assert.deepStrictEqual(abort.reason, { _tag: "Timeout", timeoutMillis: 250 })
  })

  it("does not tell a listener that took itself off, whichever it was", () => {
    for (const gone of [0, 1, 2, 3]) {
      const abort = new Abort(Infinity, Infinity)
      const log: Array<string> = []
      const listeners = ["a", "b", "c", "d"].map((name) => listener(log, name))
      for (const each of listeners) abort.on(each)
      abort.off(listeners[gone]!)
      abort.off(listeners[gone]!)
      assert.strictEqual(abort.listeners, 3)
      abort.abort(superseded)
      assert.deepStrictEqual(
        log.toSorted(),
        ["a", "b", "c", "d"].filter((_, index) => index !== gone).map((name) => `${name}:Superseded`)
      )
    }
  })

  it("does not tell a listener that an earlier one took off while hearing of it", () => {
    const abort = new Abort(Infinity, Infinity)
    const log: Array<string> = []
    const others = ["b", "c", "d"].map((name) => listener(log, name))
    abort.on(listener(log, "a", () => others.forEach((other) => abort.off(other))))
    for (const other of others) abort.on(other)
    abort.abort(superseded)
    assert.deepStrictEqual(log, ["a:Superseded"])
  })

  it("ignores taking off what never listened", () => {
    const abort = new Abort(Infinity, Infinity)
    abort.off(listener([], "stranger"))
    const log: Array<string> = []
    abort.on(listener(log, "a"))
    abort.off(listener([], "stranger"))
    assert.strictEqual(abort.listeners, 1)
  })
})

describe("a forked abort", () => {
  it("hears of its parent's abort", () => {
    const parent = new Abort(10, 10)
    const child = parent.fork()
    const log: Array<string> = []
    child.on(listener(log, "child"))
    parent.abort(closed)
    assert.deepStrictEqual(log, ["child:StackClosed"])
    assert.strictEqual(child.reason, closed)
  })

  it("is aborted alone, and its parent and siblings go on", () => {
    const parent = new Abort(10, 10)
    const first = parent.fork()
    const second = parent.fork()
    first.abort(superseded)
    assert.isUndefined(parent.reason)
    assert.isUndefined(second.reason)
    parent.abort(closed)
    assert.strictEqual(first.reason, superseded)
    assert.strictEqual(second.reason, closed)
  })

  it("leaves nothing with its parent once released", () => {
    const parent = new Abort(10, 10)
    const children = [parent.fork(), parent.fork(), parent.fork()]
    assert.strictEqual(parent.listeners, 3)
    for (const child of children) {
      child.release()
      child.release()
    }
    assert.strictEqual(parent.listeners, 0)
    parent.abort(closed)
    for (const child of children) assert.isUndefined(child.reason)
  })

  it("is born aborted under an aborted parent, and holds no place there", () => {
    const parent = new Abort(10, 10)
    parent.abort(superseded)
    const child = parent.fork()
    assert.strictEqual(child.reason, superseded)
    child.release()
    assert.strictEqual(parent.listeners, 0)
  })

  it("may be released while its parent is being aborted", () => {
    const parent = new Abort(10, 10)
    const log: Array<string> = []
    const first = parent.fork()
    const second = parent.fork()
    first.on(listener(log, "first", () => second.release()))
    second.on(listener(log, "second"))
    parent.abort(closed)
    assert.deepStrictEqual(log, ["first:StackClosed"])
    assert.isUndefined(second.reason)
  })

  it("has its parent's deadline", () => {
    const child = new Abort(1_500, 250).fork()
    assert.strictEqual(child.at, 1_500)
    assert.strictEqual(child.timeoutMillis, 250)
  })
})

describe("the failure of an aborted call", () => {
  const endpoint = Endpoint.tcp("h", 1)

  it("is a Timeout that says where the call was and what it met", () => {
    const error = abortFailure({ _tag: "Timeout", timeoutMillis: 250 }, {
      waiting: "connection",
      reached: "no",
      endpoint,
      cause: new Error("refused")
    })
    assert.strictEqual(error._tag, "Timeout")
    assert.strictEqual(error.reached, "no")
    assert.strictEqual(error.message, "no reply within 250 ms, waiting for connection at h:1: refused")
    assert.isFalse(error.retryable)
  })

  it("is a Superseded or a StackClosed for the other reasons", () => {
    const at = { waiting: "reply", reached: "maybe", endpoint } as const
    const one = abortFailure(superseded, at)
    const other = abortFailure(closed, at)
    assert.strictEqual(one._tag, "Superseded")
    assert.strictEqual(other._tag, "StackClosed")
    assert.strictEqual(other.message, `client "s" is closed at h:1`)
    for (const error of [one, other]) {
      assert.strictEqual(error.reached, "maybe")
      assert.isFalse(error.retryable)
    }
  })
})

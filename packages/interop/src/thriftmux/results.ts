/** How calls through Finagle's client ended, as a case expects it. */
import assert from "node:assert/strict"
import type * as Finagle from "../Finagle.ts"

/** The result of a call that succeeded. */
export const result = (answer: Finagle.CallResult): any => {
  assert.ok(answer.ok, JSON.stringify(answer))
  return answer.result
}

/** The failure of one that did not. */
export const refused = (answer: Finagle.CallResult): Finagle.CallResult => {
  assert.ok(!answer.ok, JSON.stringify(answer))
  return answer
}

/** Every call of a load succeeded with its own answer, but for those that it discarded itself. */
export const noneLost = ({ errors, failed, wrong }: Finagle.LoadResult): void =>
  assert.deepEqual({ failed, wrong, errors }, { failed: 0, wrong: 0, errors: {} })

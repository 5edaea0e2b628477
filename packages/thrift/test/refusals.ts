// What a protocol refuses: the error is its own, and says why.
import { assert } from "vitest"
import {
  type EncodeErrorReason,
  type ProtocolErrorReason,
  ThriftEncodeError,
  ThriftProtocolError
} from "../src/index.ts"

const thrown = (f: () => unknown): unknown => {
  try {
    f()
  } catch (error) {
    return error
  }
  return assert.fail("nothing was thrown")
}

export const refusesToRead = (reason: ProtocolErrorReason, f: () => unknown): ThriftProtocolError => {
  const error = thrown(f)
  assert.instanceOf(error, ThriftProtocolError)
  assert.strictEqual(error.reason, reason, error.message)
  return error
}

export const refusesToWrite = (reason: EncodeErrorReason, f: () => unknown): ThriftEncodeError => {
  const error = thrown(f)
  assert.instanceOf(error, ThriftEncodeError)
  assert.strictEqual(error.reason, reason, error.message)
  return error
}

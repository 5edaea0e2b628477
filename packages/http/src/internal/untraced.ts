/** Errors of others, made without a stack trace: they come in storms, and it would show this library. */

/** Makes an error that captures no stack trace. */
export const untraced = <E extends Error>(make: () => E): E => {
  const limit = Error.stackTraceLimit
  Error.stackTraceLimit = 0
  try {
    return make()
  } finally {
    Error.stackTraceLimit = limit
  }
}

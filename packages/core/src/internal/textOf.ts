/** A cause as text, whatever it is: what a stage is told of may be anything, and must not break who tells of it. */

/** The message of an error, or its name when it has none; anything else as `String` makes it, where that can. */
export const textOf = (cause: unknown): string => {
  try {
    if (!(cause instanceof Error)) return String(cause)
    const { message, name } = cause
    if (typeof message === "string" && message !== "") return message
    return typeof name === "string" ? name : "an error"
  } catch {
    return "what has no text"
  }
}

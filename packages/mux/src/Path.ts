/** The grammar of destinations and delegation tables, as a Finagle server reads them: what it refuses closes the connection. */

// 0-9 A-Z a-z _ : . # $ % -
const showable: ReadonlyArray<boolean> = Array.from(
  { length: 128 },
  (_, code) => /[0-9A-Za-z_:.#$%-]/.test(String.fromCharCode(code))
)

const slash = 0x2f
const backslash = 0x5c

const isHex = (code: number): boolean =>
  (code >= 0x30 && code <= 0x39) || (code >= 0x61 && code <= 0x66) || (code >= 0x41 && code <= 0x46)

/** Where the label that starts at `at` ends: `at` itself when there is none, -1 when an escape in it is broken. */
const labelEnd = (text: string, at: number): number => {
  for (;;) {
    const code = text.charCodeAt(at)
    if (showable[code] === true) at++
    else if (code === backslash) {
      if (text.charCodeAt(at + 1) !== 0x78 || !isHex(text.charCodeAt(at + 2)) || !isHex(text.charCodeAt(at + 3))) {
        return -1
      }
      at += 4
    } else return at
  }
}

/** Where the path that starts at `at` ends; -1 when there is none. `elements`: a label may be `*`. */
const pathEnd = (text: string, at: number, elements: boolean): number => {
  if (text.charCodeAt(at) !== slash) return -1
  let end = at
  do {
    const start = end + 1
    end = elements && text.charCodeAt(start) === 0x2a ? start + 1 : labelEnd(text, start)
    if (end < 0) return -1
    // "/" alone is the empty path; a slash with nothing behind it is none anywhere else.
    if (end === start) return start === at + 1 ? end : -1
  } while (text.charCodeAt(end) === slash)
  return end
}

/** Whether `text` is a path: `/`, or `/label/label...`, labels of showable characters and `\xHH` escapes. */
export const isPath = (text: string): boolean => pathEnd(text, 0, false) === text.length

/** Whether `text` is the prefix of a dtab entry: a path in which a label may be `*`. */
export const isPrefix = (text: string): boolean => pathEnd(text, 0, true) === text.length

/** How deep parentheses of a name tree may be nested: enough for any table, and no recursion a peer can drive. */
const maxDepth = 64

/**
 * Whether `text` is the tree of a dtab entry: paths, `!`, `~` and `$`, joined by `|` and `&`, the latter with weights
 * (`0.5 * /a & 0.5 * /b`), and parentheses, 64 deep at most.
 */
export const isNameTree = (text: string): boolean => {
  let at = 0

  const skipSpace = (): void => {
    while (text.charCodeAt(at) === 0x20 || (text.charCodeAt(at) >= 0x09 && text.charCodeAt(at) <= 0x0d)) at++
  }

  const eat = (char: string): boolean => {
    skipSpace()
    if (text[at] !== char) return false
    at++
    return true
  }

  const weight = (): boolean => {
    skipSpace()
    const found = /^[0-9]*\.?[0-9]*/.exec(text.slice(at, at + 32))![0]
    if (found === "") return true
    if (found === ".") return false
    at += found.length
    return eat("*")
  }

  const simple = (depth: number): boolean => {
    if (eat("(")) return depth < maxDepth && alternatives(depth + 1) && eat(")")
    if (eat("!") || eat("~") || eat("$")) return true
    skipSpace()
    const end = pathEnd(text, at, false)
    if (end < 0) return false
    at = end
    return true
  }

  const union = (depth: number): boolean => {
    do {
      if (!weight() || !simple(depth)) return false
    } while (eat("&"))
    return true
  }

  const alternatives = (depth: number): boolean => {
    do {
      if (!union(depth)) return false
    } while (eat("|"))
    return true
  }

  if (!alternatives(0)) return false
  skipSpace()
  return at === text.length
}

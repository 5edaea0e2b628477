/**
 * Text without secrets: what is shown of options, states and causes to whoever may look at a client or a server. Peers write some of that text: it is
 * cut first, and no pattern looks at a place of it more often than it is wide.
 */

/** In place of what nobody else is to see. */
export const hidden = "<redacted>"

/** How long a text may be; what is longer is cut, and said to be. */
export const longestText = 4096

/** How much of a text's end may go with a word that was cut in two: half a secret is not known for one. */
const longestWord = 256

/** The beginning of a text, with whole words: at most `longest` characters of it. */
export const cut = (text: string, longest = longestText): string => {
  if (text.length <= longest) return text
  let end = longest
  while (end > longest - longestWord && !/[\s"',;]/.test(text[end - 1]!)) end--
  return `${text.slice(0, end)}...`
}

/** Names of what holds nothing but secrets, however it is nested: of options, of fields. */
const secretName =
  /pass(word|phrase|wd|code)|^pass$|pwd$|secret|token|authorization|cookie|credential|api[-_]?key|private[-_]?key|access[-_]?key|account[-_]?key|signature|jwt|^pfx$/i

/** Names that others have too: secrets when their value is text. */
const secretText =
  /^(x-)?auths?$|^key$|^sig$|^session([-_]?(id|key))?$|^dsn$|connection[-_]?string|^otp$|^x-[\w-]*(auth|key|session)$/i

/** Names whose value is a secret even when it is a number: counts are called otherwise. */
const secretNumber = /^(password|passphrase|passwd|passcode|pass|pwd|pin|otp|secret)$/i

/** Names of what is asked for in a URI, or sent in a form. */
const secretInQuery = /^(code|state|session|nonce|assertion|ticket)$/i

/** Names that text does not say of anything else when a colon follows, as in `password: ...`. */
const secretBeforeColon =
  /pass(word|phrase|wd|code)$|pwd$|secret$|(api|private|access|account)[-_]?key$|[a-z\d][-_]?token$|jwt$|credentials?$|signature$/i

/** Fields of a header, which end with their line. */
const header =
  /^(proxy-)?authorization$|^(set-)?cookie2?$|^x-[\w-]*(auth|token|secret|key|session|password|signature)[\w-]*$/i

/** Whether a name says that its value is nobody else's to see. `all`: and everything in it. */
export const isSecret = (name: string, value: "text" | "number" | "all"): boolean =>
  value === "number" ? secretNumber.test(name) : secretName.test(name) || value === "text" && secretText.test(name)

/** What text holds of secrets without calling them by a name. */
const unnamed: ReadonlyArray<readonly [RegExp, string]> = [
  // Up to the last @ before the path: a password may have one in it.
  [/:\/\/[^\s/?#]{1,512}@/g, `://${hidden}@`],
  // It may have in it what ends a host as well, which a port's digits do not tell apart.
  [/:\/\/[^\s/?#@:]{0,256}:(?!\d{0,5}[/?#])[^\s@"']{1,256}@/g, `://${hidden}@`],
  // Without a scheme.
  [/(^|[\s"'(=,<[]|(?<!:)\/\/)(?!mailto:)[\w.+%~-]{1,64}:[^\s@/"']{1,128}@(?=[\w[])/g, `$1${hidden}@`],
  [/\b(digest:[^\s:"']{1,64}:)[^\s"',]{1,256}/g, `$1${hidden}`],
  [/\b(bearer\s{1,8})[\w.~+/-]+=*/gi, `$1${hidden}`],
  [/\b(basic\s{1,8})[\w.~+/-]{8,}=*/gi, `$1${hidden}`],
  [/-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\s\S]*?(-----END [A-Z ]{0,40}PRIVATE KEY-----|$)/g, hidden]
]

/** A name and what stands between it and its value, in a URI, a header, a form, JSON, or a sentence. */
const named = /(?<![\w.%[\]-])([\w.%[\]-]+)(\\{0,3}["']?\s{0,3}[:=\t]\s{0,3})/g

/** A value in quotes, which may have lost the second; one that a separator ends; the rest of a line. */
const quoted = /\\{0,3}(?:"(?:[^"\\]|\\[\s\S])*"?|'(?:[^'\\]|\\[\s\S])*'?)/y
const word = /[^\s;&"']+/y
const line = /[^\r\n]+/y

/** What ends the secret that follows a name, if one does. */
const secretAfter = (name: string, between: string, before: string | undefined): ReadonlyArray<RegExp> | undefined => {
  if (header.test(name) && !between.includes("=")) return [quoted, line]
  if (/^(proxy-)?authorization$|^(set-)?cookie$/i.test(name)) return [quoted, line]
  if (!/[:=]/.test(between)) return undefined
  const query = before !== undefined && "?&#;".includes(before)
  if (between.includes("=")) {
    return isSecret(name, "text") || isSecret(name, "number") || query && secretInQuery.test(name)
      ? [quoted, word]
      : undefined
  }
  if (secretBeforeColon.test(name)) return [quoted, word]
  return /["']/.test(between) && isSecret(name, "text") ? [quoted, word] : undefined
}

/** Without the values that a name before them calls secret. */
const withoutNamed = (text: string): string => {
  let safe = ""
  let from = 0
  named.lastIndex = 0
  for (let found = named.exec(text); found !== null; found = named.exec(text)) {
    const begin = named.lastIndex
    for (const value of secretAfter(found[1]!, found[2]!, text[found.index - 1]) ?? []) {
      value.lastIndex = begin
      if (!value.test(text)) continue
      safe += text.slice(from, begin) + hidden
      from = named.lastIndex = value.lastIndex
      break
    }
  }
  return safe + text.slice(from)
}

/** Nothing can be in it: a word, the address of an endpoint. */
const harmless = /^[\w.-]{0,255}(:\d{1,5})?$/

/**
 * Text without the user of a URI, values that are called secrets, credentials of a header, private keys. At most 4096 characters of it; how long it
 * takes does not depend on what it says.
 */
export const textWithoutSecrets = (text: string): string => {
  if (harmless.test(text)) return text
  let safe = cut(text)
  for (const [pattern, replacement] of unnamed) safe = safe.replace(pattern, replacement)
  return withoutNamed(safe)
}

/** A URI without the values that it asks with: what they are called says nothing of whose they are. */
export const uriWithoutSecrets = (uri: string): string =>
  textWithoutSecrets(uri).replace(/([?&;][^=&;\s#]{0,128}=)[^&;\s#]+/g, `$1${hidden}`)

/**
 * What may not be sent: a request that breaks out of its own lines, or whose length two readers could take for different ones (RFC 9110
 * and RFC 9112; request smuggling).
 */
import { InvalidRequest } from "../errors.ts"
import type { HttpRequest } from "../HttpWire.ts"

const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
/** Field values: no control characters but the tab, no space around, nothing beyond ISO 8859-1. */
const fieldValue = /^(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?$/
/** Path and query in visible ASCII, no fragment. */
const originForm = /^\/[!"$-~]*$/

/**
 * Fields of the connection, which is the transport's, and `expect`, which it does not wait for. Over HTTP/2 one of the connection's would
 * cost all that is on it, whoever sent it.
 */
const refused: ReadonlyMap<string, string> = new Map([
  ["connection", "is the transport's to set"],
  ["keep-alive", "is the transport's to set"],
  ["proxy-connection", "is the transport's to set"],
  ["transfer-encoding", "is the transport's to set"],
  ["upgrade", "is not supported"],
  ["http2-settings", "is not supported"],
  ["expect", "is not supported"]
])

const invalid = (part: InvalidRequest["part"], name: string, what: string) => new InvalidRequest({ part, name, what })

/** Why a field may not be sent, whatever the request; `undefined`: it may. */
export const invalidField = (given: string, value: unknown): InvalidRequest | undefined => {
  if (!token.test(given)) return invalid("header", given.replace(/[^!-~]/g, "?"), "has a name that is no token")
  const name = given.toLowerCase()
  if (typeof value !== "string" || !fieldValue.test(value)) {
    return invalid("header", name, "has a value with characters that may not be in one")
  }
  // The other codings are of the connection. In lower case, as HTTP/2 has it.
  if (name === "te" && value !== "trailers") return invalid("header", name, "may only be trailers")
  const why = refused.get(name)
  return why === undefined ? undefined : invalid("header", name, why)
}

/** Why a request may not be sent; `undefined`: it may. */
export const invalidPart = ({ body, headers, method, target }: HttpRequest): InvalidRequest | undefined => {
  if (!token.test(method)) return invalid("method", "method", "is no token")
  if (method === "CONNECT") return invalid("method", "method", "CONNECT is not supported")
  if (!originForm.test(target)) {
    return invalid("target", "target", "has to begin with / and to be visible ASCII without a fragment")
  }
  if (method === "TRACE" && body !== undefined) return invalid("body", "body", "may not go with TRACE")
  const length = body === undefined ? 0 : body.length
  if (length !== undefined && !(Number.isSafeInteger(length) && length >= 0)) {
    return invalid("body", "body", "has a length that is no number of bytes")
  }
  let hosts = 0
  let lengths = 0
  let codings = 0
  for (let i = 0; i < headers.length; i++) {
    const [given, value] = headers[i]!
    const wrong = invalidField(given, value)
    if (wrong !== undefined) return wrong
    const name = given.toLowerCase()
    if (name === "host" && ++hosts > 1) return invalid("header", name, "is there more than once")
    if (name === "te" && ++codings > 1) return invalid("header", name, "is there more than once")
    if (name !== "content-length") continue
    if (++lengths > 1) return invalid("header", name, "is there more than once")
    if (value !== String(length)) return invalid("header", name, "is not the length of the body")
  }
  return undefined
}

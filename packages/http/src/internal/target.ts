/** What a path and a query come to on the request line. */
import type { HttpCallOptions } from "../HttpService.ts"

/** What is percent-encoded in a path: nothing that means something there. Control characters stay, and are refused. */
const encodable = /[ \u0080-\u{10ffff}]+/gu

const encodePath = (path: string): string =>
  path.search(encodable) < 0 ? path : path.toWellFormed().replace(encodable, encodeURIComponent)

/** The request target. */
export const targetOf = (path: string, query: HttpCallOptions["query"]): string => {
  const target = encodePath(path)
  if (query === undefined) return target
  const params = new URLSearchParams()
  for (const [name, value] of Object.entries(query)) {
    if (value === undefined) continue
    for (const each of Array.isArray(value) ? value : [value]) params.append(name, String(each))
  }
  const text = params.toString()
  return text === "" ? target : `${target}${target.includes("?") ? "&" : "?"}${text}`
}

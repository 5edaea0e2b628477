/** Which URLs mean the service that a client is for, of clients that are called with URLs. */
import { InvalidOption } from "@scales-rpc/core"
import * as Effect from "effect/Effect"
import { ForeignUrl } from "../ForeignUrl.ts"

/** What a name and a server set are given as. */
export interface Named {
  readonly name?: string | undefined
  readonly uri?: string | undefined
  readonly tls?: unknown
  readonly transport?: unknown
}

/** The URLs of one service. */
export interface ServiceUrl {
  /** As it was given. */
  readonly name: string
  /** Why a URL is not of the service; `undefined`: it is. */
  readonly foreign: (url: URL) => ForeignUrl | undefined
  /** A relative URL as an absolute one. One with a scheme, or `//host`, keeps its host, whatever that is. */
  readonly absolute: (url: string) => string
}

const hasScheme = /^[a-z][a-z0-9+.-]*:/i

/** Whether a URL has no scheme. */
export const isRelative = (url: string): boolean => url.charCodeAt(0) === 47 || !hasScheme.test(url)

const hostOf = (scheme: "http" | "https", name: string): string | undefined => {
  try {
    const url = new URL(`${scheme}://${name}`)
    return url.href === `${scheme}://${url.host}/` ? url.host : undefined
  } catch {
    return undefined
  }
}

/** The name of a service, which is the first address of a `tcp://` URI unless it is given. */
export const nameOf = ({ name, uri }: Named): string | undefined =>
  name ?? (uri === undefined ? undefined : /^tcp:\/\/([^,]+)/i.exec(uri)?.[1])

/** Reads the name. Fails with `InvalidOption` when it is no host, or is not given and cannot be told from the URI. */
export const serviceUrl = (named: Named): Effect.Effect<ServiceUrl, InvalidOption> => {
  const { tls, transport } = named
  const name = nameOf(named)
  const http = name === undefined ? undefined : hostOf("http", name)
  if (name === undefined || http === undefined) {
    const expected = "the host of the service's URLs, such as users or localhost:8080"
    return Effect.fail(new InvalidOption({ option: "name", got: name, expected }))
  }
  const https = hostOf("https", name)!
  // What a transport of one's own speaks is not known.
  const secure = tls !== undefined || transport !== undefined
  const base = tls === undefined ? `http://${http}` : `https://${https}`
  const foreign = (url: URL): ForeignUrl | undefined => {
    const what = url.protocol === "http:" || url.protocol === "https:"
      ? url.host !== (url.protocol === "http:" ? http : https)
        ? "it is another host"
        : url.protocol === "https:" && !secure
        ? "its connections are not secured (option tls)"
        : url.username !== "" || url.password !== ""
        ? "it has credentials, which belong in a header"
        : undefined
      : "it is not HTTP"
    return what === undefined
      ? undefined
      : new ForeignUrl({ origin: `${url.protocol}//${url.host}`, name, what })
  }
  return Effect.succeed({
    name,
    foreign,
    absolute: (url) =>
      !isRelative(url)
        ? url
        : url.startsWith("//")
        ? `${base.slice(0, base.indexOf("/"))}${url}`
        : url.startsWith("/")
        ? base + url
        : `${base}/${url}`
  })
}

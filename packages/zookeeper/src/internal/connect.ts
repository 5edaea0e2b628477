/** Which servers a connect string names, whatever their order. */
import { InvalidUri } from "@scales-rpc/core"
import { parseHosts } from "../uri.ts"

/** The same text for the same servers: `host:port`, each once, in order of the text. */
export const connectKey = (connect: string): string | InvalidUri => {
  const hosts = parseHosts(connect, connect)
  if (hosts instanceof InvalidUri) return hosts
  const shown = hosts.map(({ host, port }) => (host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`))
  return shown.toSorted().join(",")
}

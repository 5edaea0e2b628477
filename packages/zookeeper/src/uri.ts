/** Reads the URIs of server sets in ZooKeeper: `zk://host[:port][,host[:port]...]/path[#endpoint]`. */
import { InvalidUri } from "@scales-rpc/core"
import { isHost, isPort } from "./internal/host.ts"

/** What a `zk://` URI names. */
export interface ServerSetUri {
  /** The servers, each with its port, in the order they were given and each once: `zk1:2181,[::1]:2182`. */
  readonly connect: string
  /** The node whose children are the members, such as `/services/echo`. */
  readonly path: string
  /** Which of a member's `additionalEndpoints` is meant; `undefined`: its `serviceEndpoint`. */
  readonly endpointName: string | undefined
}

/** The port of a ZooKeeper server when none is given. */
const defaultPort = 2181

const expected =
  "zk://host[:port][,host[:port]...]/path[#endpoint], an IPv6 address in brackets, a port from 1 to 65535"

/** A server of an ensemble. */
export interface ZooKeeperHost {
  /** A name, or an address without brackets. */
  readonly host: string
  /** 1 to 65535. */
  readonly port: number
}

/** `host:port`, an IPv6 address in brackets. */
const shown = ({ host, port }: ZooKeeperHost): string => host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`

/** Reads one server; the text says what is wrong with it. */
const parseHost = (text: string): ZooKeeperHost | string => {
  if (text === "") return "a host is empty"
  const bracketed = text.startsWith("[")
  const end = bracketed ? text.indexOf("]") : text.indexOf(":")
  if (bracketed && end < 0) return `"${text}" has no closing bracket`
  const host = bracketed ? text.slice(1, end) : end < 0 ? text : text.slice(0, end)
  const after = bracketed ? text.slice(end + 1) : end < 0 ? "" : text.slice(end)
  if (after.indexOf(":", 1) >= 0) return `the IPv6 address in "${text}" is not in brackets`
  if (host === "") return `"${text}" has no host`
  if (!isHost(host) || bracketed !== host.includes(":")) {
    return `"${host}" is no ${bracketed ? "IPv6 address" : "host"}`
  }
  const port = after === "" ? defaultPort : /^:[0-9]{1,5}$/.test(after) ? Number(after.slice(1)) : NaN
  return isPort(port) ? { host, port } : `"${after.replace(/^:/, "")}" is no port`
}

/** Reads servers that stand between commas, each once; a failure names `uri`, where the text was found. */
export const parseHosts = (uri: string, text: string): ReadonlyArray<ZooKeeperHost> | InvalidUri => {
  const hosts = new Map<string, ZooKeeperHost>()
  for (const part of text.split(",")) {
    const host = parseHost(part)
    if (typeof host === "string") return new InvalidUri({ uri, what: host, expected })
    hosts.set(shown(host), host)
  }
  return [...hosts.values()]
}

/** Characters that ZooKeeper takes in no path: controls, surrogates, the private use area and the end of the first plane. */
// oxlint-disable-next-line no-control-regex
const forbidden = /[\u0000-\u001f\u007f-\u009f\ud800-\uf8ff\ufff0-\uffff]/

/** Says what is wrong with a path, by ZooKeeper's rules for paths. */
const faultOf = (path: string): string | undefined => {
  if (path === "" || path === "/") return "it names no path"
  if (path.endsWith("/")) return `the path "${path}" ends with a slash`
  const parts = path.slice(1).split("/")
  if (parts.includes("")) return `the path "${path}" has an empty part`
  if (parts.includes(".") || parts.includes("..")) return `the path "${path}" is relative`
  if (forbidden.test(path)) return "the path has a character that ZooKeeper does not take"
  return undefined
}

/** Reads a `zk://` URI; `rest` is the URI without `zk://`. The path and the name are taken as they are: nothing in them is escaped. */
export const parseServerSetUri = (uri: string, rest: string): ServerSetUri | InvalidUri => {
  const mark = rest.indexOf("#")
  const address = mark < 0 ? rest : rest.slice(0, mark)
  const slash = address.indexOf("/")
  const path = slash < 0 ? "" : address.slice(slash)
  const hosts = parseHosts(uri, slash < 0 ? address : address.slice(0, slash))
  if (hosts instanceof InvalidUri) return hosts
  const fault = faultOf(path) ?? (mark === rest.length - 1 ? "the name of the endpoint is empty" : undefined)
  if (fault !== undefined) return new InvalidUri({ uri, what: fault, expected })
  return { connect: hosts.map(shown).join(","), path, endpointName: mark < 0 ? undefined : rest.slice(mark + 1) }
}

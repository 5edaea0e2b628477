/** The nodes of an in-memory ZooKeeper: versions, ephemeral and sequential nodes, access lists, and what each change is to who watches. */
import { createHash } from "node:crypto"
import { isAcl, isPath } from "../internal/arguments.ts"
import { codeOf, type FailureTag } from "../internal/codes.ts"
import type { Acl, CreateMode, Stat, WatchEvent } from "../Session.ts"

/** Who asks: what a session has shown of itself. */
export interface Identity {
  readonly scheme: string
  readonly id: string
}

interface Node {
  data: Uint8Array
  readonly children: Set<string>
  readonly owner: string | undefined
  readonly created: number
  readonly createdZxid: number
  acl: ReadonlyArray<Acl>
  version: number
  aclVersion: number
  modified: number
  modifiedZxid: number
  childrenZxid: number
  /** Children ever made: what the next sequential one is named by. */
  births: number
  deaths: number
}

/** What an operation met, as ZooKeeper's code. */
export class Refused extends Error {
  readonly code: number
  constructor(tag: FailureTag) {
    super(tag)
    this.code = codeOf(tag)
  }
}

const open: ReadonlyArray<Acl> = [{ scheme: "world", id: "anyone", permissions: "rwcda" }]

const parentOf = (path: string): string => path.slice(0, path.lastIndexOf("/")) || "/"

const nameOf = (path: string): string => path.slice(path.lastIndexOf("/") + 1)

/** What digest credentials, `user:password`, are to ZooKeeper: the user, and a hash of both. */
export const digest = (credentials: string): string =>
  `${credentials.split(":")[0]}:${createHash("sha1").update(credentials).digest("base64")}`

/** The nodes. Methods throw `Refused`; `who` is left out by whoever may do anything. */
export class Tree {
  readonly #nodes = new Map<string, Node>()
  #zxid = 0
  readonly #now: () => number
  readonly #changed: (event: WatchEvent, path: string) => void

  /** `changed` hears of each change, in order, as those who watch would. */
  constructor(now: () => number, changed: (event: WatchEvent, path: string) => void) {
    this.#now = now
    this.#changed = changed
    this.#nodes.set("/", this.#node(new Uint8Array(), undefined, open))
  }

  /** The number of the last change. */
  get zxid(): number {
    return this.#zxid
  }

  #node(data: Uint8Array, owner: string | undefined, acl: ReadonlyArray<Acl>): Node {
    return {
      data,
      owner,
      acl,
      children: new Set(),
      created: this.#now(),
      createdZxid: this.#zxid,
      modified: this.#now(),
      modifiedZxid: this.#zxid,
      childrenZxid: this.#zxid,
      version: 0,
      aclVersion: 0,
      births: 0,
      deaths: 0
    }
  }

  #find(path: string): Node {
    if (!isPath(path)) throw new Refused("BadArguments")
    const node = this.#nodes.get(path)
    if (node === undefined) throw new Refused("NoNode")
    return node
  }

  #check(node: Node, permissions: string, who: ReadonlyArray<Identity> | undefined): void {
    const allowed = who === undefined ||
      node.acl.some((entry) =>
        [...permissions].some((permission) => entry.permissions.includes(permission)) &&
        (entry.scheme === "world" || who.some(({ id, scheme }) => scheme === entry.scheme && id === entry.id))
      )
    if (!allowed) throw new Refused("NoAuth")
  }

  /** An access list as it is kept: `auth` is everybody that the asker has shown to be. */
  #acl(acl: ReadonlyArray<Acl>, who: ReadonlyArray<Identity> | undefined): ReadonlyArray<Acl> {
    if (!isAcl(acl)) throw new Refused("InvalidAcl")
    const kept = acl.flatMap((entry): ReadonlyArray<Acl> => {
      if (entry.scheme === "world" && entry.id === "anyone") return [entry]
      if (entry.scheme === "digest" && entry.id.split(":").length === 2) return [entry]
      if (entry.scheme === "auth" && who !== undefined && who.length > 0) {
        return who.map((identity) => ({ ...identity, permissions: entry.permissions }))
      }
      throw new Refused("InvalidAcl")
    })
    return kept
  }

  #stat(node: Node): Stat {
    return {
      version: node.version,
      childrenVersion: node.births + node.deaths,
      aclVersion: node.aclVersion,
      created: node.created,
      modified: node.modified,
      createdZxid: node.createdZxid,
      modifiedZxid: node.modifiedZxid,
      childrenZxid: node.childrenZxid,
      dataLength: node.data.length,
      childCount: node.children.size,
      owner: node.owner
    }
  }

  /** The facts of a node, or `undefined`. */
  exists(path: string, who?: ReadonlyArray<Identity>): Stat | undefined {
    if (!isPath(path)) throw new Refused("BadArguments")
    const node = this.#nodes.get(path)
    if (node === undefined) return undefined
    // As servers since 3.9.2 do; older ones show facts to anybody.
    this.#check(node, "r", who)
    return this.#stat(node)
  }

  /** Data and facts. */
  get(path: string, who?: ReadonlyArray<Identity>): { readonly data: Uint8Array; readonly stat: Stat } {
    const node = this.#find(path)
    this.#check(node, "r", who)
    return { data: node.data.slice(), stat: this.#stat(node) }
  }

  /** Names and facts. */
  children(
    path: string,
    who?: ReadonlyArray<Identity>
  ): { readonly children: ReadonlyArray<string>; readonly stat: Stat } {
    const node = this.#find(path)
    this.#check(node, "r", who)
    return { children: [...node.children], stat: this.#stat(node) }
  }

  /** The path that was made. `owner` is the session of an ephemeral node. */
  create(
    path: string,
    data: Uint8Array,
    mode: CreateMode,
    owner: string | undefined,
    acl: ReadonlyArray<Acl> = open,
    who?: ReadonlyArray<Identity>
  ): string {
    const sequential = mode.endsWith("Sequential")
    if (!isPath(sequential ? `${path}0` : path) || path === "/") throw new Refused("BadArguments")
    const kept = this.#acl(acl, who)
    const parentPath = parentOf(path)
    const parent = this.#find(parentPath)
    this.#check(parent, "c", who)
    if (parent.owner !== undefined) throw new Refused("NoChildrenForEphemerals")
    const made = sequential ? `${path}${String(parent.births).padStart(10, "0")}` : path
    if (this.#nodes.has(made)) throw new Refused("NodeExists")
    this.#zxid++
    this.#nodes.set(made, this.#node(data.slice(), mode.startsWith("ephemeral") ? owner : undefined, kept))
    parent.children.add(nameOf(made))
    parent.births++
    parent.childrenZxid = this.#zxid
    this.#changed("Created", made)
    this.#changed("ChildrenChanged", parentPath)
    return made
  }

  /** Rewrites data. */
  set(path: string, data: Uint8Array, version?: number, who?: ReadonlyArray<Identity>): Stat {
    const node = this.#find(path)
    this.#check(node, "w", who)
    if (version !== undefined && version !== node.version) throw new Refused("BadVersion")
    this.#zxid++
    node.data = data.slice()
    node.version++
    node.modified = this.#now()
    node.modifiedZxid = this.#zxid
    this.#changed("DataChanged", path)
    return this.#stat(node)
  }

  /** Deletes a node without children. */
  delete(path: string, version?: number, who?: ReadonlyArray<Identity>): void {
    if (path === "/") throw new Refused("BadArguments")
    const node = this.#find(path)
    const parentPath = parentOf(path)
    const parent = this.#find(parentPath)
    this.#check(parent, "d", who)
    if (version !== undefined && version !== node.version) throw new Refused("BadVersion")
    if (node.children.size > 0) throw new Refused("NotEmpty")
    this.#zxid++
    this.#nodes.delete(path)
    parent.children.delete(nameOf(path))
    parent.deaths++
    parent.childrenZxid = this.#zxid
    this.#changed("Deleted", path)
    this.#changed("ChildrenChanged", parentPath)
  }

  /** Who may do what with a node. */
  acl(path: string, who?: ReadonlyArray<Identity>): { readonly acl: ReadonlyArray<Acl>; readonly stat: Stat } {
    const node = this.#find(path)
    this.#check(node, "ra", who)
    return { acl: node.acl, stat: this.#stat(node) }
  }

  /** Says who may do what with a node. `version` is that of its access list. */
  setAcl(path: string, acl: ReadonlyArray<Acl>, version?: number, who?: ReadonlyArray<Identity>): void {
    const kept = this.#acl(acl, who)
    const node = this.#find(path)
    this.#check(node, "a", who)
    if (version !== undefined && version !== node.aclVersion) throw new Refused("BadVersion")
    this.#zxid++
    node.acl = kept
    node.aclVersion++
  }

  /** The ephemeral nodes of a session go. */
  end(owner: string): void {
    for (const [path, node] of [...this.#nodes]) if (node.owner === owner) this.delete(path)
  }
}

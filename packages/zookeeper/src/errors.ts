/** What an operation on ZooKeeper can fail with: one tagged class for each return code that an operation can have. */
import { Failure } from "@scales-rpc/core"
import type * as Cause from "effect/Cause"

/** What every failure of an operation says: what was asked for, of which path, and ZooKeeper's code for what became of it. */
export interface OperationFields {
  /** `get`, `children`, `exists`, `create`, `set`, `delete`, `acl`, `setAcl`, `auth` or `sync`. */
  readonly operation: string
  /** Empty for an operation that has none. */
  readonly path: string
  /** The return code of the C client and the server, such as -101. */
  readonly code: number
}

const failure = <const Tag extends string>(
  tag: Tag,
  what: string
): new(fields: OperationFields) => Cause.YieldableError & { readonly _tag: Tag } & Readonly<OperationFields> => {
  class OperationFailed extends Failure(tag)<OperationFields> {
    override get message(): string {
      return `${this.operation}${this.path === "" ? "" : ` ${this.path}`}: ${what} (${this.code})`
    }
  }
  return OperationFailed
}

/** There is no such node, or, of a node to be made, no parent (-101). */
export class NoNode extends failure("NoNode", "no such node") {}
/** The node is there already (-110). */
export class NodeExists extends failure("NodeExists", "the node exists") {}
/** The node is at another version than the one that was named (-103). */
export class BadVersion extends failure("BadVersion", "another version") {}
/** A node with children cannot be deleted (-111). */
export class NotEmpty extends failure("NotEmpty", "the node has children") {}
/** An ephemeral node has no children (-108). */
export class NoChildrenForEphemerals extends failure("NoChildrenForEphemerals", "an ephemeral node has no children") {}
/** The session has not shown that it may do this (-102). */
export class NoAuth extends failure("NoAuth", "not permitted") {}
/** The server does not accept the credentials (-115). */
export class AuthFailed extends failure("AuthFailed", "the credentials were refused") {}
/** The access list is none, or names a scheme that the server does not know (-114). */
export class InvalidAcl extends failure("InvalidAcl", "no valid access list") {}
/** The connection broke before the answer came: whether the operation was done is unknown (-4). */
export class ConnectionLoss extends failure("ConnectionLoss", "the connection was lost") {}
/** The session is over, and with it its ephemeral nodes and watches (-112). */
export class SessionExpired extends failure("SessionExpired", "the session has expired") {}
/** The session is served by another server by now (-118). */
export class SessionMoved extends failure("SessionMoved", "the session has moved to another server") {}
/** No answer in time (-7). */
export class OperationTimeout extends failure("OperationTimeout", "no answer in time") {}
/** The arguments are none that ZooKeeper takes, such as a path that does not begin with a slash (-8). */
export class BadArguments extends failure("BadArguments", "invalid arguments") {}
/** The session was closed by this program, before the operation or under it (-116, -9). */
export class SessionClosed extends failure("SessionClosed", "the session is closed") {}
/** Any other code: the client or the server has failed in a way that operations are not expected to. */
export class ZooKeeperFailed extends failure("ZooKeeperFailed", "ZooKeeper has failed") {}

/** Every failure of an operation. */
export type ZooKeeperError =
  | NoNode
  | NodeExists
  | BadVersion
  | NotEmpty
  | NoChildrenForEphemerals
  | NoAuth
  | AuthFailed
  | InvalidAcl
  | ConnectionLoss
  | SessionExpired
  | SessionMoved
  | OperationTimeout
  | BadArguments
  | SessionClosed
  | ZooKeeperFailed

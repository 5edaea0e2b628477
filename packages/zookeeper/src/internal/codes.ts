/** ZooKeeper's return codes, and the failures they are. */
import * as Errors from "../errors.ts"

const classes = {
  NoNode: [-101, Errors.NoNode],
  NoAuth: [-102, Errors.NoAuth],
  BadVersion: [-103, Errors.BadVersion],
  NoChildrenForEphemerals: [-108, Errors.NoChildrenForEphemerals],
  NodeExists: [-110, Errors.NodeExists],
  NotEmpty: [-111, Errors.NotEmpty],
  SessionExpired: [-112, Errors.SessionExpired],
  InvalidAcl: [-114, Errors.InvalidAcl],
  AuthFailed: [-115, Errors.AuthFailed],
  SessionClosed: [-116, Errors.SessionClosed],
  SessionMoved: [-118, Errors.SessionMoved],
  ConnectionLoss: [-4, Errors.ConnectionLoss],
  OperationTimeout: [-7, Errors.OperationTimeout],
  BadArguments: [-8, Errors.BadArguments],
  ZooKeeperFailed: [-1, Errors.ZooKeeperFailed]
} as const

/** The tag of a failure that has a code of its own. */
export type FailureTag = keyof typeof classes

const byCode = new Map<number, (typeof classes)[FailureTag][1]>([
  ...Object.values(classes).map(([code, failure]) => [code, failure] as const),
  // The C client's word for an operation on a handle that is closed already.
  [-9, Errors.SessionClosed]
])

/** The code of a failure. */
export const codeOf = (tag: FailureTag): number => classes[tag][0]

/** The failure that a return code other than 0 is. */
export const failureOf = (code: number, operation: string, path: string): Errors.ZooKeeperError =>
  new (byCode.get(code) ?? Errors.ZooKeeperFailed)({ code, operation, path })

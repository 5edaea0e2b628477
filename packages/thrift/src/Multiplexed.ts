/**
 * Several services on one connection, as Apache's `TMultiplexedProtocol` has it: the name of a call, and of a oneway call, is the
 * service's and the method's with a colon between them. Replies carry the method's name alone.
 */

/** What stands between the service and the method. */
const separator = ":"

/** The name of a call on the wire. */
export const prefixed = (service: string, method: string): string => service + separator + method

/** The service and the method that a call names; no service if it was not prefixed. A further colon belongs to the method. */
export const split = (name: string): { readonly service: string | undefined; readonly method: string } => {
  const at = name.indexOf(separator)
  return at < 0 ? { service: undefined, method: name } : { service: name.slice(0, at), method: name.slice(at + 1) }
}

/**
 * The geometry of the deterministic aperture, Finagle's: all endpoints of a set lie around a ring of length 1, each as long as its
 * weight's share; the clients of one service lie around another, all alike. A client uses the endpoints that lie across from it,
 * and from as many clients after it as it takes to make a window of a dozen endpoints, so that together they load the ring evenly.
 */

/** Where a client looks. */
export interface Window {
  /** Where it begins, from 0 to 1, without 1. */
  readonly offset: number
  /** How long it is, more than 0, at most 1. Past 1 it goes on at 0. */
  readonly width: number
}

/** Less than this part of an endpoint is a rounding error. */
const negligible = 1e-9

/** Weights as shares of their sum. Throws a `RangeError` for one that is not above 0 or not finite. */
export const normalize = (weights: ReadonlyArray<number>): Array<number> => {
  let sum = 0
  for (const weight of weights) {
    if (!(weight > 0 && weight < Infinity)) throw new RangeError(`weight ${weight}: expected a finite number above 0`)
    sum += weight
  }
  return weights.map((weight) => weight / sum)
}

/** The window of the client `instance` of `instances`, from 0, on `size` endpoints, of which it is to have `least`. */
export const windowOf = (instance: number, instances: number, size: number, least: number): Window => {
  // In whole numbers until the end: a window that is one client too wide by rounding would be uneven.
  const units = Math.ceil((Math.min(least, size) * instances) / size)
  return { offset: instance / instances, width: Math.min(1, units / instances) }
}

/** How much of the ring each endpoint has inside of the window, by the endpoints' shares in their order. */
export const overlaps = (shares: ReadonlyArray<number>, { offset, width }: Window): Array<number> => {
  if (width >= 1) return shares.slice()
  const end = offset + width
  let from = 0
  return shares.map((share) => {
    const begin = from
    from += share
    const across = Math.max(0, Math.min(from, end) - Math.max(begin, offset))
    const wrapped = Math.max(0, Math.min(from, end - 1) - begin)
    const overlap = across + wrapped
    return overlap > share * negligible ? overlap : 0
  })
}

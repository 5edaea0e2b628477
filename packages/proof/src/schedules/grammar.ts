/** A schedule as plain data: what may happen to a session, in steps of a name and small numbers, made from a seed. */

/** One thing that happens. Its numbers choose among what is there at the time, so that it has a meaning wherever it stands. */
export type Step = readonly [name: string, ...numbers: ReadonlyArray<number>]

/** What a run is made of: JSON that replays it. */
export interface Schedule {
  readonly options: Readonly<Record<string, number>>
  readonly steps: ReadonlyArray<Step>
}

/** What may happen: each number is drawn from 0 to below the one that is given here. */
export interface Grammar {
  readonly options: Readonly<Record<string, number>>
  readonly steps: Readonly<Record<string, { readonly weight: number; readonly numbers: ReadonlyArray<number> }>>
}

/** A seeded generator of whole numbers below a bound. */
export type Draw = (below: number) => number

/** The numbers of schedule `index` of a run that began with `seed` (splitmix32: neighbours have nothing in common). */
export const drawer = (seed: number, index: number): Draw => {
  let state = (Math.imul(seed, 0x9e3779b1) ^ Math.imul(index + 1, 0x85ebca6b)) | 0
  return (below) => {
    state = (state + 0x9e3779b9) | 0
    let mixed = state ^ (state >>> 16)
    mixed = Math.imul(mixed, 0x21f0aaad)
    mixed ^= mixed >>> 15
    mixed = Math.imul(mixed, 0x735a2d97)
    return ((mixed ^ (mixed >>> 15)) >>> 0) % below
  }
}

const shortest = 5
const longest = 40

/** A schedule of 5 to 40 steps. */
export const generate = ({ options, steps }: Grammar, draw: Draw): Schedule => {
  const kinds = Object.entries(steps)
  const total = kinds.reduce((sum, [, { weight }]) => sum + weight, 0)
  const one = (): Step => {
    let dice = draw(total)
    for (const [name, { numbers, weight }] of kinds) {
      if (dice < weight) return [name, ...numbers.map(draw)]
      dice -= weight
    }
    throw new Error("the weights do not add up")
  }
  return {
    options: Object.fromEntries(Object.entries(options).map(([name, below]) => [name, draw(below)])),
    steps: Array.from({ length: shortest + draw(longest - shortest + 1) }, one)
  }
}

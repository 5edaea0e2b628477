/** What tests of pickers share: members made by hand, a picker used as a balancer would, and one that goes through anything. */
import { assert } from "@effect/vitest"
import { Endpoint, type Outcome } from "@scales-rpc/core"
import { Member, type Picker } from "../src/Balancer.ts"
import { seeded } from "./support.ts"

export type Rank = 0 | 1 | 2

let ports = 0

/** A member of its own port. */
export const member = (weight = 1): Member =>
  // Also weights beyond what an endpoint may have: what sums lose is seen sooner.
  new Member({ ...Endpoint.tcp("h", 1 + ports++ % 65_535), weight }, () => {})

/** A picker over one member a weight, and what a balancer does with it. */
export const use = (picker: Picker, weights: ReadonlyArray<number>) => {
  const members = weights.map(member)
  for (const each of members) picker.add(each)
  const acquire = (...tried: ReadonlyArray<Endpoint>): Member => {
    const picked = picker.pick(tried, undefined)!
    picked.load++
    picker.began(picked, 0)
    return picked
  }
  const release = (each: Member, outcome: Outcome = "success", millis = 1) => {
    each.load--
    picker.ended(each, outcome, millis, 0)
  }
  const setRank = (each: Member, rank: Rank) => {
    each.rank = rank
    picker.changed(each)
  }
  const reweigh = (each: Member, weight: number) => {
    each.endpoint = { ...each.endpoint, weight }
    picker.changed(each)
  }
  const join = (weight = 1): Member => {
    const joining = member(weight)
    members.push(joining)
    picker.add(joining)
    return joining
  }
  const leave = (each: Member) => {
    members.splice(members.indexOf(each), 1)
    picker.remove(each)
  }
  /** So many calls, none of which ends. */
  const hold = (count: number) => Array.from({ length: count }, () => acquire())
  /** So many calls, each of which ends before the next. */
  const oneByOne = (count: number, outcome?: Outcome, millis?: number) =>
    Array.from({ length: count }, () => {
      const picked = acquire()
      release(picked, outcome, millis)
      return picked
    })
  const loads = () => members.map(({ load }) => load)
  /** How often each is among those picked. */
  const counts = (picked: ReadonlyArray<Member>) => {
    const all = new Map<Member, number>()
    for (const each of picked) all.set(each, (all.get(each) ?? 0) + 1)
    return members.map((each) => all.get(each) ?? 0)
  }
  return { acquire, counts, hold, join, leave, loads, members, oneByOne, picker, release, reweigh, setRank }
}

/** So many members of weight 1. */
export const ones = (count: number): ReadonlyArray<number> => Array(count).fill(1)

/**
 * Random operations against what a plain search says: whatever happened before, a pick is a member, of the best rank, not
 * tried when another of that rank is not, and the same for the same seed; and every member's index tells where it stands, or what `isValid` looks at
 * instead holds.
 */
export const goesThroughAnything = <P extends Picker>(
  make: (random: () => number, now: () => number) => P,
  isValid?: (picker: P, size: number) => boolean
): void => {
  for (let seed = 1; seed <= 40; seed++) {
    const picks = run(make, seed, isValid)
    assert.deepStrictEqual(run(make, seed, isValid), picks, `seed ${seed}`)
  }
}

const outcomes: ReadonlyArray<Outcome> = ["success", "failure", "rejected", "ignored"]

const run = <P extends Picker>(
  make: (random: () => number, now: () => number) => P,
  seed: number,
  isValid: ((picker: P, size: number) => boolean) | undefined
): ReadonlyArray<number> => {
  const random = seeded(seed)
  let now = 0
  const picker = make(seeded(seed + 1_000), () => now)
  const { acquire, join, leave, members, release, reweigh, setRank } = use(picker, [])
  const among = <A>(all: ReadonlyArray<A>): A => all[Math.floor(random() * all.length)]!
  const weight = () => random() < 0.6 ? 1 : Math.ceil(random() * 8) / 2
  const left: Array<Member> = []
  const picks: Array<number> = []
  for (let step = 0; step < 500; step++) {
    const at = `seed ${seed}, step ${step}`
    const dice = random()
    if (random() < 0.3) now += Math.floor(random() * 2_000)
    if (members.length === 0 || dice < 0.1) {
      const back = random() < 0.3 ? left.pop() : undefined
      if (back === undefined) join(weight())
      else {
        members.push(back)
        picker.add(back)
      }
    } else if (dice < 0.16) {
      const leaving = among(members)
      leave(leaving)
      left.push(leaving)
      assert.strictEqual(leaving.index, -1, at)
    } else if (dice < 0.3) setRank(among(members), among([0, 1, 2]))
    else if (dice < 0.36) reweigh(among(members), weight())
    else if (dice < 0.6) {
      const loaded = members.filter(({ load }) => load > 0)
      if (loaded.length > 0) release(among(loaded), among(outcomes), Math.floor(random() * 500))
    } else {
      const tried = random() < 0.3 ? members.filter(() => random() < 0.5).map(({ endpoint }) => endpoint) : []
      const best = Math.min(...members.map(({ rank }) => rank))
      const equal = members.filter(({ rank }) => rank === best)
      const untried = equal.filter(({ endpoint }) => !tried.includes(endpoint))
      const picked = acquire(...tried)
      assert.isTrue((untried.length > 0 ? untried : equal).includes(picked), at)
      picks.push(members.indexOf(picked))
    }
    if (isValid !== undefined) assert.isTrue(isValid(picker, members.length), at)
    else {
      assert.isTrue(members.every(({ index }) => index >= 0), at)
      assert.strictEqual(new Set(members.map(({ index, rank }) => `${rank} ${index}`)).size, members.length, at)
    }
  }
  while (members.length > 0) leave(members[0]!)
  assert.isUndefined(picker.pick([], undefined))
  return picks
}

/** Makes a schedule that fails as short as it gets: steps are left out in ever smaller runs, then numbers are made 0. */
import type { Schedule, Step } from "./grammar.ts"

/** How often a schedule is tried before the shortest so far must do. */
const mostTries = 2000

/** The shortest schedule found that `fails`; the one given fails. */
export const shrink = async (
  schedule: Schedule,
  fails: (schedule: Schedule) => Promise<boolean>
): Promise<Schedule> => {
  let best = schedule
  let tries = 0
  const take = async (next: Schedule): Promise<boolean> => {
    if (++tries > mostTries || !(await fails(next))) return false
    best = next
    return true
  }
  const without = async (): Promise<boolean> => {
    let shorter = false
    for (let length = best.steps.length; length >= 1; length = Math.floor(length / 2)) {
      for (let at = 0; at < best.steps.length;) {
        const steps = [...best.steps.slice(0, at), ...best.steps.slice(at + length)]
        if (await take({ ...best, steps })) shorter = true
        else at += length
      }
    }
    return shorter
  }
  // A number that is gone may make another step needless.
  do {
    while (await without());
  } while (await plainer(() => best, take))
  return best
}

const plainer = async (best: () => Schedule, take: (next: Schedule) => Promise<boolean>): Promise<boolean> => {
  let changed = false
  for (const [name, value] of Object.entries(best().options)) {
    if (value !== 0 && (await take({ ...best(), options: { ...best().options, [name]: 0 } }))) changed = true
  }
  for (let at = 0; at < best().steps.length; at++) {
    for (let place = 1; place < best().steps[at]!.length; place++) {
      if (best().steps[at]![place] === 0) continue
      const step = best().steps[at]!.with(place, 0) as unknown as Step
      if (await take({ ...best(), steps: best().steps.with(at, step) })) changed = true
    }
  }
  return changed
}

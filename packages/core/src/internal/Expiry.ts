/** Closes members that are open, outside of an aperture, and without a call for a while. */
import type { Control, Member } from "../Balancer.ts"
import { CallAt, type Timer } from "../Deadlines.ts"

/** What a picker keeps as `member.own` has this. */
export interface Expiring {
  /** Until the member is closed. */
  expires: Timer | undefined
}

const expiring = (member: Member): Expiring => member.own

/** Told of whatever may begin or end a member's idleness. */
export class Expiry {
  readonly #control: Control
  readonly #millis: number
  readonly #expired: (member: Member) => void
  #stopped = false

  /** Closes after `millis`; `expired` hears of it just before. */
  constructor(control: Control, millis: number, expired: (member: Member) => void) {
    this.#control = control
    this.#millis = millis
    this.#expired = expired
  }

  /** Something of the member has changed; `outside`: nothing keeps it open but its calls. */
  watch(member: Member, outside: boolean): void {
    // One that is down is not closed: whatever waits for it to heal goes on, and nobody takes it for one that was never tried.
    if (!outside || member.load > 0 || member.state !== "Open" || this.#stopped) this.forget(member)
    else if (expiring(member).expires === undefined) this.#begin(member)
  }

  /** Apart from `watch`, which every call comes through: what a closure holds is allocated when its function is entered. */
  #begin(member: Member): void {
    const own = expiring(member)
    const { deadlines, now } = this.#control.stack
    const at = now()
    own.expires = new CallAt(at + this.#millis, () => {
      own.expires = undefined
      this.#expired(member)
      this.#control.shelve(member)
    })
    deadlines.add(own.expires, at)
  }

  /** It is not to be closed. */
  forget(member: Member): void {
    const own = expiring(member)
    if (own.expires === undefined) return
    this.#control.stack.deadlines.remove(own.expires)
    own.expires = undefined
  }

  /** Closes nothing any more; those that wait are to be forgotten by whoever knows them. */
  stop(): void {
    this.#stopped = true
  }
}

/** A picker under a balancer made by hand: its members, their sinks' states, its clock and its timers are the test's. */
import { type Balancer, type Call, Endpoint, type SinkState, type StackShape, StatusCell } from "@scales-rpc/core"
import { Deadlines } from "../src/Deadlines.ts"
import { Member, type Picker } from "../src/Balancer.ts"
import { makeCall, seeded } from "./support.ts"

type AnyMember = Member

/** What a member's sink does when it is opened: opens or is refused at once, or says nothing until the test sets its state. */
export type Opening = "opens" | "refuses" | "waits"

/** A picker with what is around it. */
export class Picking<P extends Picker> {
  time = 0
  readonly members: Array<AnyMember> = []
  readonly picker: P
  readonly deadlines: Deadlines
  /** What opening does; by the member's port, or for all. */
  opening: Opening | ((member: AnyMember) => Opening) = "opens"
  /** Every member that the picker opened, in order. */
  readonly opened: Array<AnyMember> = []
  /** Every member that the picker shelved, in order. */
  readonly shelved: Array<AnyMember> = []
  #sleeping: { readonly at: number; readonly wake: () => void } | undefined
  #ports = 0

  constructor(make: (control: Balancer.Control) => P, seed = 1) {
    this.deadlines = new Deadlines(
      { currentTimeMillisUnsafe: () => this.time } as ConstructorParameters<typeof Deadlines>[0],
      (millis, wake) => {
        const sleep = this.#sleeping = { at: this.time + millis, wake }
        return () => {
          if (this.#sleeping === sleep) this.#sleeping = undefined
        }
      }
    )
    const stack = {
      name: "text",
      now: () => this.time,
      elapsed: () => this.time,
      random: seeded(seed),
      deadlines: this.deadlines
    }
    this.picker = make({
      stack: stack as unknown as StackShape,
      open: (member) => {
        this.opened.push(member)
        this.connect(member)
      },
      shelve: (member) => {
        if (member.load > 0) return
        this.shelved.push(member)
        this.set(member, "Idle")
      }
    })
  }

  /** Members `h:1` and so on join. */
  join(count: number, weight?: (port: number) => number): ReadonlyArray<AnyMember> {
    return Array.from({ length: count }, () => {
      const port = ++this.#ports
      const host = `10.${port >> 16}.${(port >> 8) & 255}.${port & 255}`
      const member = new Member(Endpoint.tcp(host, 80, { weight: weight?.(port) ?? 1 }), () => {})
      member.sink = { status: new StatusCell("Idle") } as unknown as NonNullable<AnyMember["sink"]>
      this.members.push(member)
      this.picker.add(member)
      return member
    })
  }

  leave(member: AnyMember): void {
    this.members.splice(this.members.indexOf(member), 1)
    member.removed = true
    this.picker.remove(member)
  }

  /** The state of its sink. */
  set(member: AnyMember, state: SinkState): void {
    const status = member.sink!.status as StatusCell
    status.set(state)
    member.rank = state === "Closed" ? 2 : state === "Busy" ? 1 : 0
    if (!member.removed) this.picker.changed(member)
  }

  connect(member: AnyMember): void {
    if (member.state === "Open") return
    const does = typeof this.opening === "string" ? this.opening : this.opening(member)
    if (does !== "waits") this.set(member, does === "opens" ? "Open" : "Closed")
  }

  /** A call begins; it opens the endpoint it goes to. */
  begin(tried: ReadonlyArray<Endpoint> = [], call: Call = makeCall()): AnyMember {
    const member = this.picker.pick(tried, call)!
    member.load++
    this.picker.began(member, this.time)
    if (member.state === "Idle") this.connect(member)
    return member
  }

  /** A call ends. */
  end(member: AnyMember): void {
    member.load--
    if (!member.removed) this.picker.ended(member, "success", 1, this.time)
  }

  /** Lets time pass, and timers fire. */
  pass(millis: number): void {
    const until = this.time + millis
    for (let next = this.#sleeping; next !== undefined && next.at <= until; next = this.#sleeping) {
      this.time = Math.max(this.time, next.at)
      this.#sleeping = undefined
      next.wake()
    }
    this.time = until
  }

  /** `callers` callers, each of which calls again as soon as its call has ended, for so long; each call takes `service` ms. */
  load(callers: number, service: number, millis: number, eachTurn: () => void = () => {}): void {
    const running: Array<{ member: AnyMember; until: number }> = []
    for (let caller = 0; caller < callers; caller++) {
      running.push({ member: this.begin(), until: this.time + 1 + Math.floor((caller * service) / callers) })
    }
    for (let turn = 0; turn < millis; turn++) {
      this.pass(1)
      for (const call of running) {
        if (call.until > this.time) continue
        this.end(call.member)
        call.member = this.begin()
        call.until = this.time + service
      }
      eachTurn()
    }
    for (const { member } of running) this.end(member)
  }
}

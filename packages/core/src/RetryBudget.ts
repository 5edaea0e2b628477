/**
 * How many calls of one client may be sent again: a share of those that succeeded lately, and a few a second in any case.
 * The numbers and the token arithmetic are Finagle's.
 */
import * as Effect from "effect/Effect"
import { InvalidOption } from "./RpcError.ts"

/** Options of a budget. */
export interface RetryBudgetOptions {
  /** How long a deposit counts, in milliseconds, 1000 to 60000. Default 10000. */
  readonly ttlMillis?: number | undefined
  /** Retries a second that are free. Default 10. */
  readonly minRetriesPerSecond?: number | undefined
  /** Retries for each success: 0.2 is one for five. 0, or a millionth to 1000. Default 0.2. */
  readonly percentCanRetry?: number | undefined
}

const slices = 10
const depositTokens = 1000

/** A leaky token bucket. */
export class RetryBudget {
  /** The options in force. */
  readonly options: { readonly [Name in keyof RetryBudgetOptions]-?: number }
  /** Retries that were paid. */
  withdrawals = 0
  /** Retries that were not, for want of tokens. */
  refusals = 0
  readonly #now: () => number
  readonly #sliceMillis: number
  readonly #reserve: number
  readonly #deposit: number
  readonly #withdrawal: number
  /** Tokens in and out of each slice of the window; one that has aged is reused. */
  readonly #window = new Float64Array(slices)
  #slice: number
  #sum = 0

  readonly #exhausted: () => void

  /** `now` reads the stack's clock in milliseconds; `exhausted` hears of each refusal. Options are taken as right: `make` checks them. */
  constructor(now: () => number, options: RetryBudgetOptions = {}, exhausted: () => void = () => {}) {
    const { minRetriesPerSecond = 10, percentCanRetry = 0.2, ttlMillis = 10_000 } = options
    this.options = { ttlMillis, minRetriesPerSecond, percentCanRetry }
    this.#now = now
    this.#exhausted = exhausted
    this.#sliceMillis = ttlMillis / slices
    this.#deposit = percentCanRetry === 0 ? 0 : depositTokens
    this.#withdrawal = percentCanRetry === 0 ? 1 : Math.floor(depositTokens / percentCanRetry)
    this.#reserve = minRetriesPerSecond * (ttlMillis / 1000) * this.#withdrawal
    this.#slice = Math.floor(now() / this.#sliceMillis)
  }

  /** Notes a success; `now`, when who calls has just read the clock. */
  deposit(now: number = this.#now()): void {
    this.#turn(now)
    this.#add(this.#deposit)
  }

  /** Takes one retry; `false`: there is none left. */
  withdraw(): boolean {
    this.#turn()
    if (this.#sum + this.#reserve < this.#withdrawal) {
      this.refusals++
      this.#exhausted()
      return false
    }
    this.withdrawals++
    this.#add(-this.#withdrawal)
    return true
  }

  /** As plain data. */
  get snapshot() {
    return { balance: this.balance, withdrawals: this.withdrawals, exhausted: this.refusals }
  }

  /** How many retries are left. */
  get balance(): number {
    this.#turn()
    return Math.max(0, Math.floor((this.#sum + this.#reserve) / this.#withdrawal))
  }

  #add(tokens: number): void {
    this.#window[this.#slice % slices]! += tokens
    this.#sum += tokens
  }

  /** Forgets the slices that have aged. */
  #turn(now: number = this.#now()): void {
    const slice = Math.floor(now / this.#sliceMillis)
    if (slice <= this.#slice) return
    const aged = Math.min(slices, slice - this.#slice)
    for (let i = 1; i <= aged; i++) {
      const index = (this.#slice + i) % slices
      this.#sum -= this.#window[index]!
      this.#window[index] = 0
    }
    this.#slice = slice
  }
}

/** Makes a budget; `now` gives milliseconds, `exhausted` hears of each refusal. Fails with `InvalidOption` for an option out of its range. */
export const make = (
  now: () => number,
  options: RetryBudgetOptions = {},
  exhausted?: () => void
): Effect.Effect<RetryBudget, InvalidOption> => {
  const invalid = (option: string, got: unknown, expected: string) =>
    Effect.fail(new InvalidOption({ option: `budget.${option}`, got, expected }))
  const { minRetriesPerSecond = 10, percentCanRetry = 0.2, ttlMillis = 10_000 } = options
  if (!(ttlMillis >= 1000 && ttlMillis <= 60_000)) return invalid("ttlMillis", ttlMillis, "1000 to 60000")
  if (!(minRetriesPerSecond >= 0 && minRetriesPerSecond < Infinity)) {
    return invalid("minRetriesPerSecond", minRetriesPerSecond, "a number from 0")
  }
  if (percentCanRetry !== 0 && !(percentCanRetry >= 1e-6 && percentCanRetry <= 1000)) {
    return invalid("percentCanRetry", percentCanRetry, "0, or 0.000001 to 1000")
  }
  return Effect.sync(() => new RetryBudget(now, options, exhausted))
}

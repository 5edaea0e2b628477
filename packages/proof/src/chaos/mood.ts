/** How a server of the chaos runs may be told to answer. */

/** `errors` and `nacks`: nothing else, at once; `slow`: right, but late. */
export type Mood = "well" | "slow" | "errors" | "nacks"

/** What a call takes at a server that is well. With 1000 calls a second that makes 64 in flight: as many as 64 callers have. */
export const serviceMillis = 64

/** How many times longer it takes at a slow one. */
export const slowness = 10

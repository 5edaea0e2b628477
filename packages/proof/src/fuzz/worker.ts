/** Attacks one target in a process of its own, whose heap is small and whose silence is a hang. */
import { mutate, Numbers } from "./mutate.ts"
import { targets } from "./targets.ts"
import { weigh } from "./weight.ts"

/** An input that went wrong. */
export interface Crash {
  readonly index: number
  readonly hex: string
  readonly what: string
}

/** What a value may weigh: so much for each byte of the input, and a little for none. A Thrift field of one byte is an object. */
const perByte = 256
const base = 64 * 1024

const [name, seedText, fromText, toText] = process.argv.slice(2)
const target = targets.find((one) => one.name === name)!
const seed = Number(seedText)

for (let index = Number(fromText); index < Number(toText); index++) {
  // Each input has a stream of its own, so that one of them can be run alone.
  const input = mutate(target.corpus, new Numbers(Math.imul(seed, 0x2545f491) ^ Math.imul(index, 0x9e3779b1)))
  try {
    const weight = weigh(target.run(input))
    if (weight > base + perByte * input.length) {
      throw new Error(`${input.length} bytes were read as a value of at least ${weight} bytes`)
    }
  } catch (error) {
    const crash: Crash = {
      index,
      hex: Buffer.from(input).toString("hex").slice(0, 4000),
      what: error instanceof Error ? error.stack ?? error.message : String(error)
    }
    process.send!({ crash })
  }
  if (index % 2000 === 0) process.send!({ at: index })
}
process.send!({ done: true })
process.disconnect()

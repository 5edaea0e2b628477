/** Bytes that are almost right: mutations that know where lengths and counts tend to stand. */

/** Pseudo-random numbers that repeat: splitmix32, one stream a seed. */
export class Numbers {
  #state: number

  constructor(seed: number) {
    this.#state = seed | 0
  }

  /** 32 random bits. */
  bits(): number {
    this.#state = (this.#state + 0x9e3779b9) | 0
    let z = this.#state
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad)
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97)
    return (z ^ (z >>> 15)) >>> 0
  }

  /** A whole number from 0 to `limit`, without it. */
  below(limit: number): number {
    return this.bits() % limit
  }

  /** One of these. */
  of<A>(items: ReadonlyArray<A>): A {
    return items[this.below(items.length)]!
  }
}

/** Numbers at which lengths, counts, signs and limits turn over. */
const edges = [
  0,
  1,
  2,
  3,
  4,
  5,
  7,
  8,
  0x7f,
  0x80,
  0xff,
  0x100,
  0x7fff,
  0x8000,
  0xffff,
  0x10000,
  0x7fffff,
  0x800000,
  0x7fffffff,
  0x80000000,
  0x80010000,
  0xfffffffe,
  0xffffffff
]

const writeNumber = (bytes: Uint8Array, at: number, width: number, value: number): void => {
  for (let i = 0; i < width; i++) bytes[at + i] = value >>> (8 * (width - 1 - i))
}

const concat = (...parts: ReadonlyArray<Uint8Array>): Uint8Array => {
  const bytes = new Uint8Array(parts.reduce((length, part) => length + part.length, 0))
  let at = 0
  for (const part of parts) {
    bytes.set(part, at)
    at += part.length
  }
  return bytes
}

/** One change. `corpus` is where spliced parts come from. */
const change = (bytes: Uint8Array, corpus: ReadonlyArray<Uint8Array>, numbers: Numbers): Uint8Array => {
  const at = numbers.below(bytes.length + 1)
  const to = Math.min(bytes.length, at + 1 + numbers.below(16))
  switch (numbers.below(9)) {
    case 0:
      if (at < bytes.length) bytes[at]! ^= 1 << numbers.below(8)
      return bytes
    case 1:
      if (at < bytes.length) bytes[at] = numbers.bits()
      return bytes
    case 2:
    case 3: {
      // A length or a count, of any width, moved to an edge or by one.
      const width = numbers.of([1, 2, 3, 4, 4])
      if (at + width > bytes.length) return bytes
      let value = 0
      for (let i = 0; i < width; i++) value = value * 256 + bytes[at + i]!
      writeNumber(bytes, at, width, numbers.below(2) === 0 ? numbers.of(edges) : value + numbers.of([-2, -1, 1, 2]))
      return bytes
    }
    case 4:
      return bytes.slice(0, at)
    case 5:
      return concat(bytes.subarray(0, at), bytes.subarray(to))
    case 6:
      return concat(bytes.subarray(0, to), bytes.subarray(at, to), bytes.subarray(to))
    case 7: {
      const other = numbers.of(corpus)
      const from = numbers.below(other.length + 1)
      return concat(bytes.subarray(0, at), other.subarray(from, from + numbers.below(64)), bytes.subarray(to))
    }
    default: {
      const noise = Uint8Array.from({ length: numbers.below(12) }, () => numbers.bits())
      return concat(bytes.subarray(0, at), noise, bytes.subarray(at))
    }
  }
}

/** One input: something of the corpus, changed one to six times; now and then as it is, or noise. */
export const mutate = (corpus: ReadonlyArray<Uint8Array>, numbers: Numbers): Uint8Array => {
  if (numbers.below(200) === 0) return Uint8Array.from({ length: numbers.below(300) }, () => numbers.bits())
  let bytes: Uint8Array = numbers.of(corpus).slice()
  for (let changes = numbers.below(7); changes > 0; changes--) bytes = change(bytes, corpus, numbers)
  return bytes
}

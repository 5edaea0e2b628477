/** How much memory a decoded value holds, at least: what is compared with the size of the bytes it came from. */

/** A lower bound in bytes; views count once with what they show, since what they are views of is the input. */
export const weigh = (value: unknown, depth = 0): number => {
  if (depth > 200) return 0
  if (typeof value === "string") return 16 + value.length
  if (typeof value !== "object" || value === null) return 8
  if (ArrayBuffer.isView(value)) return 64 + value.byteLength
  let weight = 32
  if (Array.isArray(value)) {
    weight += 8 * value.length
    for (const item of value) weight += weigh(item, depth + 1)
    return weight
  }
  for (const key of Object.keys(value)) {
    weight += 16 + key.length + weigh((value as Record<string, unknown>)[key], depth + 1)
  }
  return weight
}

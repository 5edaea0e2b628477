import { assert, describe, it } from "@effect/vitest"
import { type Point, rising } from "../src/soak/verdict.ts"

const point: Point = {
  heap: 20_000_000,
  handles: { Timeout: 4, TCPSocketWrap: 3 },
  sockets: 3,
  fibers: 1,
  outstanding: 0,
  tags: 0,
  loads: 0,
  sessions: 3
}

const points = (last: Partial<Point>): ReadonlyArray<Point> => [
  { ...point, heap: 30_000_000 },
  { ...point, heap: 22_000_000 },
  point,
  point,
  { ...point, ...last }
]

describe("a soak", () => {
  it("is flat when nothing is above the third point, and the heap not by more than 15 %", () => {
    assert.deepStrictEqual(rising("client", points({})), [])
    assert.deepStrictEqual(rising("client", points({ heap: 23_000_000, handles: { Timeout: 3 } })), [])
  })

  for (const what of ["sockets", "fibers", "sessions"] as const) {
    it(`is not when one of the ${what} is left`, () => {
      const sentence = `client: ${what} went from ${point[what]} to ${point[what] + 1}`
      assert.deepStrictEqual(rising("client", points({ [what]: point[what] + 1 })), [sentence])
    })
  }

  it("is not when a handle of some kind is left, even when another has gone", () => {
    assert.deepStrictEqual(rising("client", points({ handles: { Timeout: 3, PipeWrap: 1, TCPSocketWrap: 4 } })), [
      "client: PipeWrap handles went from 0 to 1",
      "client: TCPSocketWrap handles went from 3 to 4"
    ])
  })

  it("is not when the heap grows by more", () => {
    assert.deepStrictEqual(rising("server", points({ heap: 23_000_001 })), [
      "server: heap went from 20000000 to 23000001 bytes"
    ])
  })

  it("is not when a call, a tag or a load is left at any point", () => {
    const [first, ...others] = points({})
    assert.deepStrictEqual(rising("client", [{ ...first!, tags: 1, loads: 2, outstanding: 3 }, ...others]), [
      "client: 3 outstanding at point 1",
      "client: 1 tags at point 1",
      "client: 2 loads at point 1"
    ])
  })

  it("is not when it was never measured", () => {
    assert.deepStrictEqual(rising("client", [point]), ["client: 1 points"])
  })
})

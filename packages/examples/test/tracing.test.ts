/** The program that docs/tracing.md shows, run as a reader would run it, and what the page says it prints. */
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { readFileSync } from "node:fs"
import { pathOf, run } from "./program.ts"

it.live("tracing.ts prints the tree of spans of one call through two servers, as the page has it", () =>
  Effect.gen(function*() {
    const { code, stderr, stdout } = yield* run(pathOf("src/tracing.ts"))
    assert.strictEqual(stderr, "")
    assert.strictEqual(code, 0)
    assert.match(stdout, /^traces: 1$/m)
    assert.include(readFileSync(pathOf("../../docs/tracing.md"), "utf8"), stdout)
  }))

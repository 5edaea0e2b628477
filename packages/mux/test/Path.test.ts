import { assert, describe, it } from "@effect/vitest"
import { isNameTree, isPath, isPrefix } from "../src/Path.ts"

describe("paths", () => {
  it("are labels of showable characters and escapes, each behind a slash", () => {
    for (const path of ["/", "/a", "/a/b", "/s/echo-svc_1.2:3#x$y%z", "/\\x2f\\xFF", "/$/inet/localhost/8080"]) {
      assert.isTrue(isPath(path), path)
    }
    for (
      const path of ["", "a", "nope", "/a/", "//a", "/a//b", "/a b", "/\\x2", "/\\y2f", "/ä", "/a\n", "/*", "/a|/b"]
    ) {
      assert.isFalse(isPath(path), path)
    }
  })

  it("may have * for a label in a prefix", () => {
    for (const path of ["/*", "/a/*/b", "/a"]) assert.isTrue(isPrefix(path), path)
    for (const path of ["*", "/a*", "/**", "x"]) assert.isFalse(isPrefix(path), path)
  })
})

describe("name trees", () => {
  it("are paths, !, ~ and $, joined and weighted", () => {
    for (
      const tree of [
        "/a",
        "/",
        "!",
        "~",
        "$",
        "/a|/b",
        " /a | /b ",
        "/a & /b",
        "0.5 * /a & .5*/b",
        "1 * (/a | /b) & 2 * $",
        "((/a))",
        "/$/inet/x/1 | !"
      ]
    ) assert.isTrue(isNameTree(tree), tree)
    for (
      const tree of ["", "y", "/a |", "| /a", "/a /b", "(/a", "/a)", "0.5 /a", ". * /a", "1 *", "/a &", "!!", "()"]
    ) {
      assert.isFalse(isNameTree(tree), tree)
    }
  })

  it("may not be nested so deep that reading them could exhaust the stack", () => {
    const nested = (depth: number) => `${"(".repeat(depth)}/a${")".repeat(depth)}`
    assert.isTrue(isNameTree(nested(64)))
    assert.isFalse(isNameTree(nested(16_000)))
  })
})

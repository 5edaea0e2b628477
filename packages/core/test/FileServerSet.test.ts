/** `file://`: what a file may say, and what may happen to it. Files are real, the clock is the test's. */
import { assert, describe, it } from "@effect/vitest"
import { Endpoint, resolve } from "@scales-rpc/core"
import { Effect, Fiber } from "effect"
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import { DirectoryWatch } from "../src/internal/DirectoryWatch.ts"
import { parseMembers } from "../src/internal/fileMembers.ts"
import { pass, turns, until, watching } from "./watching.ts"

describe("a file of endpoints", () => {
  const good: ReadonlyArray<readonly [content: string, keys: ReadonlyArray<string>, complete: boolean]> = [
    ["a:1\nb:2\n", ["a:1", "b:2"], true],
    ["a:1\r\nb:2\r\n", ["a:1", "b:2"], true],
    ["# all of them\n\n  a:1  # the first\nb:2 #\n#c:3\n", ["a:1", "b:2"], true],
    ["\uFEFFa:1\n", ["a:1"], true],
    ["a:1\nb:2\na:1\n", ["a:1", "b:2"], true],
    ["[::1]:80\n[fd00::a]:81\n", ["[::1]:80", "[fd00::a]:81"], true],
    ["  [fe80::1%eth0]:80\n", ["[fe80::1%eth0]:80"], true],
    ["a:1\nb:80", ["a:1", "b:80"], false],
    ["a:1", ["a:1"], false],
    ["[]", [], true],
    ["\n [\n]\n", [], true],
    ["[\"a:1\", \"[::1]:2\"]", ["a:1", "[::1]:2"], true],
    ["[{\"host\":\"a\",\"port\":1},\"b:2\"]\n", ["a:1", "b:2"], true],
    ["[{\"host\":\"::1\",\"port\":1},{\"host\":\"[::2]\",\"port\":2}]", ["[::1]:1", "[::2]:2"], true]
  ]

  it("lists them as JSON, or one a line", () => {
    for (const [content, keys, complete] of good) {
      const members = parseMembers(content)
      if (members.wrong !== undefined) return assert.fail(`${content}: ${members.wrong}`)
      assert.deepStrictEqual(members.endpoints.map(({ key }) => key), keys, content)
      assert.strictEqual(members.complete, complete, content)
    }
  })

  it("says more of each as an object, the last of two counting", () => {
    const members = parseMembers(JSON.stringify([
      { host: "a", port: 1 },
      { host: "b", port: 2, weight: 0.5, shard: 3, metadata: { zone: "x" } },
      { host: "a", port: 1, weight: 2 }
    ]))
    assert.deepStrictEqual(members.wrong === undefined && members.endpoints, [
      Endpoint.tcp("a", 1, { weight: 2 }),
      Endpoint.tcp("b", 2, { weight: 0.5, shard: 3, metadata: { zone: "x" } })
    ])
  })

  const bad: ReadonlyArray<readonly [content: string, wrong: RegExp]> = [
    ["", /lists nothing.*written \[\]/],
    ["\n# nothing yet\n", /lists nothing/],
    ["a:1\nb\n", /^line 2: "b" has no port/],
    ["a:1\n\n# x\nb:x", /^line 4: "x" is no port/],
    ["a:1 b:2\n", /^line 1: /],
    ["::1:80\n", /^line 1: .*brackets/],
    ["{\"host\":\"a\",\"port\":1}", /^no array of members$/],
    [`${"x".repeat(5000)}\n`, /^line 1: "x{60}\.\.\." is longer than a host name$/],
    [`a:${"1".repeat(5000)}\n`, /^line 1: "1{60}\.\.\." is no port$/],
    ["[1]", /^line 1: /],
    ["[\"a:1\"", /^no JSON: /],
    ["[\"a:1\",]", /^no JSON: /],
    ["[{\"host\":\"a\",\"po", /^no JSON: /],
    ["[\"a\"]", /^member 1: "a" has no port/],
    ["[\"a:1\",7]", /^member 2: 7 is neither/],
    ["[\"a:1\",null]", /^member 2: null is neither/],
    ["[\"a:1\",[\"b:2\"]]", /^member 2: \["b:2"\] is neither/],
    ["[{}]", /^member 1: host is null/],
    ["[{\"host\":\"a\"}]", /^member 1: port is null/],
    ["[{\"host\":\"a\",\"port\":\"1\"}]", /^member 1: port is "1", not a number/],
    ["[{\"host\":\"a\",\"port\":0}]", /^member 1: "0" is no port/],
    ["[{\"host\":\"a\",\"port\":1.5}]", /^member 1: "1.5" is no port/],
    ["[{\"host\":\"a b\",\"port\":1}]", /^member 1: "a b" is no host name/],
    ["[{\"host\":\"\",\"port\":1}]", /^member 1: .*no host/],
    ["[{\"host\":\"a\",\"port\":1,\"weight\":0}]", /^member 1: weight is 0/],
    ["[{\"host\":\"a\",\"port\":1,\"weight\":\"2\"}]", /^member 1: weight is "2"/],
    ["[{\"host\":\"a\",\"port\":1,\"weight\":1e7}]", /^member 1: weight is 10000000/],
    ["[{\"host\":\"a\",\"port\":1,\"shard\":-1}]", /^member 1: shard is -1/],
    ["[{\"host\":\"a\",\"port\":1,\"metadata\":{\"k\":1}}]", /^member 1: "k" of metadata is 1/],
    ["[{\"host\":\"a\",\"port\":1,\"metadata\":[]}]", /^member 1: metadata is \[\]/],
    ["[{\"host\":\"a\",\"port\":1,\"wieght\":2}]", /^member 1: "wieght" is none of host, port/]
  ]

  it("is wrong as a whole when anything in it is, and says where", () => {
    for (const [content, wrong] of bad) assert.match(parseMembers(content).wrong ?? "nothing", wrong, content)
  })

  it("as JSON is never complete before its end", () => {
    const whole = JSON.stringify(["a:1", { host: "b", port: 80, metadata: { k: "]" } }, "[::1]:2"], null, 2)
    for (let length = 0; length < whole.length; length++) {
      assert.isDefined(parseMembers(whole.slice(0, length)).wrong, whole.slice(0, length))
    }
  })
})

describe("a file:// URI", () => {
  it.effect("that is wrong fails with why, and what would be right", () =>
    Effect.gen(function*() {
      const bad: ReadonlyArray<readonly [uri: string, what: RegExp]> = [
        ["file://", /not absolute/],
        ["file://members", /not absolute/],
        ["file://host/members", /not absolute/],
        ["file:///", /names a directory/],
        ["file:///etc/", /names a directory/],
        ["file:///etc/members?x=1", /query or a fragment/],
        ["file:///etc/members#x", /query or a fragment/],
        ["file:///etc/a%00b", /NUL/],
        ["file:///etc/a%2Fb", /./],
        ["file:///etc/a%zz", /./]
      ]
      for (const [uri, what] of bad) {
        const error = yield* Effect.flip(resolve(uri))
        assert.strictEqual(error._tag === "InvalidUri" && error.uri, uri)
        assert.match(error._tag === "InvalidUri" ? error.what : "", what, uri)
        assert.include(error.message, "expected file:///path/to/file")
      }
    }))
})

/** A folder of the test's, and what watches a file in it. */
const world = Effect.gen(function*() {
  const folder = yield* Effect.acquireRelease(
    Effect.promise(() => Fs.mkdtemp(join(tmpdir(), "file-set-"))),
    (folder) => Effect.promise(() => Fs.rm(folder, { recursive: true }))
  )
  const at = (...names: ReadonlyArray<string>) => join(folder, ...names)
  const write = (path: string, text: string) => Effect.promise(() => Fs.writeFile(path, text))
  const run = (change: () => Promise<unknown>) => Effect.promise(change)
  /** Lets time pass, 50 ms at a time, with as many turns at the file system in between as a look takes. */
  const slowly = (millis: number) =>
    Effect.gen(function*() {
      for (let passed = 0; passed < millis; passed += 50) {
        for (let turn = 0; turn < 10; turn++) yield* run(() => Fs.stat(folder))
        yield* pass(50, 50)
      }
    })
  return { at, write, run, slowly, watch: (path: string) => watching(pathToFileURL(path).href) }
})

describe("a server set from file://", () => {
  it.effect("follows a file that is written in place, in parts, and takes no part for the whole", () =>
    Effect.gen(function*() {
      const { at, run, slowly, watch, write } = yield* world
      const path = at("members")
      yield* write(path, "a:1\nb:2\n")
      const seen = yield* watch(path)
      yield* seen.becomes("a:1 b:2")
      let file: Fs.FileHandle | undefined
      yield* run(async () => {
        file = await Fs.open(path, "w")
      })
      // It is empty now, then ends after a line, then in the middle of one; each time for less than it has to rest.
      for (const part of ["# new\n", "c:3\n", "d:8", "08", "0\n"]) {
        yield* slowly(50)
        yield* run(() => file!.appendFile(part))
      }
      yield* run(() => file!.close())
      yield* seen.becomes("c:3 d:8080", 50)
      assert.deepStrictEqual(seen.all(), ["a:1 b:2", "c:3 d:8080"])
      assert.deepStrictEqual(seen.warnings, [])
    }))

  it.effect("takes an emptied file for no empty set, however long it stays so; [] is one", () =>
    Effect.gen(function*() {
      const { at, watch, write } = yield* world
      const path = at("members")
      yield* write(path, "a:1\n")
      const seen = yield* watch(path)
      yield* seen.becomes("a:1")
      yield* write(path, "")
      yield* seen.warned(1)
      yield* pass(60_000)
      assert.match(seen.warnings[0]!, /lists nothing; an empty set is written \[\]; what was known stands/)
      yield* write(path, "[]")
      yield* seen.becomes("")
      assert.deepStrictEqual(seen.all(), ["a:1", ""])
      assert.lengthOf(seen.warnings, 1)
    }))

  it.effect("gives a line without an end a second in which to end", () =>
    Effect.gen(function*() {
      const { at, run, slowly, watch, write } = yield* world
      const path = at("members")
      yield* write(path, "a:1\n")
      const seen = yield* watch(path)
      yield* seen.becomes("a:1")
      yield* write(path, "b:80")
      yield* slowly(900)
      yield* run(() => Fs.appendFile(path, "80\n"))
      yield* seen.becomes("b:8080", 50)
      yield* write(path, "c:3")
      yield* seen.becomes("c:3")
      assert.deepStrictEqual(seen.all(), ["a:1", "b:8080", "c:3"])
    }))

  it.effect("is not none when the file is removed and made again within a second", () =>
    Effect.gen(function*() {
      const { at, run, slowly, watch, write } = yield* world
      const path = at("members")
      yield* write(path, "a:1\n")
      const seen = yield* watch(path)
      yield* seen.becomes("a:1")
      yield* run(() => Fs.unlink(path))
      yield* slowly(900)
      yield* write(path, "b:2\n")
      yield* seen.becomes("b:2", 50)
      assert.deepStrictEqual(seen.all(), ["a:1", "b:2"])
    }))

  it.effect("warns of each way in which the file is wrong, once", () =>
    Effect.gen(function*() {
      const { at, watch, write } = yield* world
      const path = at("members")
      yield* write(path, "a:1\n")
      const seen = yield* watch(path)
      yield* seen.becomes("a:1")
      yield* write(path, "a:x\n")
      yield* seen.warned(1)
      yield* write(path, "a:1\nb\n")
      yield* seen.warned(2)
      yield* write(path, "[]")
      yield* seen.becomes("")
      assert.lengthOf(seen.warnings, 2)
      assert.match(seen.warnings[0]!, /line 1: "x" is no port/)
      assert.match(seen.warnings[1]!, /line 2: "b" has no port/)
    }))

  it.effect("waits for a directory that is made later, and follows it when it is replaced", () =>
    Effect.gen(function*() {
      const { at, run, watch, write } = yield* world
      const path = at("etc", "echo", "members")
      const seen = yield* watch(path)
      yield* seen.becomes("Neg")
      yield* run(() => Fs.mkdir(at("etc", "echo"), { recursive: true }))
      yield* write(path, "a:1\n")
      yield* seen.becomes("a:1")
      yield* run(() => Fs.rename(at("etc", "echo"), at("etc", "old")))
      yield* seen.becomes("Neg")
      yield* run(() => Fs.mkdir(at("etc", "echo")))
      yield* write(path, "b:2\n")
      yield* seen.becomes("b:2")
      // What is written to the directory that was there before is no news.
      yield* write(at("etc", "old", "members"), "c:3\n")
      yield* write(path, "d:4\n")
      yield* seen.becomes("d:4")
      assert.deepStrictEqual(seen.all(), ["Neg", "a:1", "Neg", "b:2", "d:4"])
      // A file where a directory was.
      yield* run(() => Fs.rm(at("etc", "echo"), { recursive: true }))
      yield* write(at("etc", "echo"), "no directory")
      yield* seen.becomes("Neg")
    }))

  it.effect("follows a link that is changed to another folder, as a mounted configuration is", () =>
    Effect.gen(function*() {
      const { at, run, watch, write } = yield* world
      for (const [version, text] of [["1", "a:1\n"], ["2", "b:2\n"]] as const) {
        yield* run(() => Fs.mkdir(at(version)))
        yield* write(at(version, "members"), text)
      }
      yield* run(() => Fs.symlink("1", at("data")))
      yield* run(() => Fs.symlink(join("data", "members"), at("members")))
      const seen = yield* watch(at("members"))
      yield* seen.becomes("a:1")
      yield* run(async () => {
        await Fs.symlink("2", at("data.new"))
        await Fs.rename(at("data.new"), at("data"))
      })
      yield* seen.becomes("b:2")
      assert.deepStrictEqual(seen.all(), ["a:1", "b:2"])
    }))

  it.effect("fails for what is no regular file, and does not wait for it", () =>
    Effect.gen(function*() {
      const { at, run, watch, write } = yield* world
      execFileSync("mkfifo", [at("pipe")])
      yield* run(() => Fs.mkdir(at("folder")))
      for (const name of ["pipe", "folder"]) {
        const seen = yield* watch(at(name))
        yield* seen.becomes("Failed")
        assert.match(seen.warnings[0]!, /no regular file/)
        yield* run(() => Fs.rm(at(name), { recursive: true }))
        yield* write(at(name), "a:1\n")
        yield* seen.becomes("a:1")
      }
    }))

  it.effect("reads a path that is written with escapes", () =>
    Effect.gen(function*() {
      const { at, watch, write } = yield* world
      const path = at("a b#c?ü%20")
      yield* write(path, "a:1\n")
      const seen = yield* watch(path)
      yield* seen.becomes("a:1")
    }))

  it.effect("sees a change of the same length that follows the first reading at once", () =>
    Effect.gen(function*() {
      const { at, watch, write } = yield* world
      const path = at("members")
      yield* write(path, "a:1\n")
      const seen = yield* watch(path)
      yield* until(() => seen.states.length > 0, seen.all, 0)
      yield* write(path, "b:2\n")
      yield* seen.becomes("b:2")
      assert.deepStrictEqual(seen.all(), ["a:1", "b:2"])
    }))
})

describe("a watched directory", () => {
  it.effect("tells of its file at once, and of no other", () =>
    Effect.gen(function*() {
      const { at, run, write } = yield* world
      const watch = yield* Effect.acquireRelease(
        Effect.sync(() => new DirectoryWatch(at("members"))),
        (watch) => Effect.sync(() => watch.close())
      )
      yield* run(() => watch.follow())
      const waiting = yield* Effect.forkChild(watch.next, { startImmediately: true })
      yield* write(at("others"), "x")
      yield* run(() => Fs.rename(at("others"), at("another")))
      const seen = new DirectoryWatch(at("another"))
      yield* run(() => seen.follow())
      yield* run(() => Fs.unlink(at("another")))
      // In its order: what came before has been told as well.
      yield* seen.next
      yield* Effect.sync(() => seen.close())
      yield* turns()
      assert.isUndefined(waiting.pollUnsafe())
      yield* write(at("members"), "a:1\n")
      yield* Fiber.join(waiting)
    }))
})

/** What the docs show type-checks; what is a program in them runs, and prints what it should. */
import { assert, describe, it } from "@effect/vitest"
import { ThriftMuxServer } from "@scales-rpc/thriftmux"
import { Effect } from "effect"
import { Echo, echoHandlers } from "../src/echo.ts"
import {
  brokenLinks,
  documents,
  extract,
  type Fence,
  inDocuments,
  isProgram,
  isTest,
  textOf,
  tsc,
  write,
  writeLoader
} from "./fences.ts"
import { run, start } from "./program.ts"

const fences = extract()
const of = (document: string) => fences.filter((fence) => fence.document === document)

it.live(`all ${fences.length} fences type-check`, () =>
  Effect.gen(function*() {
    const [compiler, ...args] = tsc
    const { code, stdout } = yield* run(compiler!, args)
    assert.strictEqual(inDocuments(stdout, fences), "")
    assert.strictEqual(code, 0)
  }))

it("every link of the docs leads somewhere", () => {
  assert.deepStrictEqual(documents.flatMap(brokenLinks), [])
})

it("docs/errors.md says of every tag what it is", () => {
  const page = textOf("docs/errors.md")
  const sources = [
    "core/src/RpcError.ts",
    "thrift/src/errors.ts",
    "core/src/Listen.ts",
    "core/src/Tls.ts",
    "http/src/errors.ts",
    "http/src/ForeignUrl.ts",
    "http/src/FetchError.ts"
  ].map((path) => textOf(`packages/${path}`))
  const tags = Array.from(
    sources.join("\n").matchAll(/class (\w+)(?:<.*>)?\s+extends (?:Failure|Data\.TaggedError|Stackless|Untraced)\b/g),
    ([, tag]) => tag!
  )
  assert.includeMembers(tags, ["Timeout", "InvalidUri", "ThriftException", "ListenFailed", "ForeignUrl", "FetchFailed"])
  assert.deepStrictEqual(tags.filter((tag) => !page.includes(`| \`${tag}\``) && !page.includes(`, \`${tag}\` |`)), [])
})

/** A program of the docs as it is shown, but for the address that it calls or listens on. */
const placed = (fence: Fence, from: string | RegExp, to: string) => {
  const path = fence.path.replace(/\.ts$/, ".run.ts")
  const code = fence.code.replace(from, to)
  assert.notStrictEqual(code, fence.code, `it has no ${from}`)
  write(fence, path, code)
  return path
}

const calling = (fence: Fence, uri: string) => placed(fence, /tcp:\/\/localhost:8080(,localhost:8081)?/, uri)

describe("README.md", () => {
  const programs = of("README.md").filter(isProgram)
  assert.lengthOf(programs, 2)
  for (const fence of programs) {
    it.live(`the program on line ${fence.line} prints the reply and ends`, () =>
      Effect.gen(function*() {
        const { counts, uri } = yield* ThriftMuxServer.make(Echo, echoHandlers())
        const { code, stderr, stdout } = yield* run(calling(fence, uri))
        assert.strictEqual(stderr, "")
        assert.strictEqual(code, 0)
        assert.match(stdout, /text: 'hi!'/)
        assert.strictEqual(counts.requests, 1)
      }))
  }
})

/** A program of the docs, by its page and name. */
const named = (document: string, name: string) => of(document).find(({ path }) => path.endsWith(`/${name}`))!

it.live("the docs' server serves their client and their promises, and drains when it is told to", () =>
  Effect.gen(function*() {
    const server = yield* start(placed(named("docs/server.md", "server.ts"), "port: 8080", "port: 0"))
    const [, port] = yield* server.line(/listening on tcp:\/\/0\.0\.0\.0:(\d+)\n/)
    const uri = `tcp://localhost:${port}`
    const client = calling(named("docs/getting-started.md", "client.ts"), uri)
    assert.deepInclude(yield* run(client), { code: 0, stdout: "pong\n", stderr: "" })
    const promises = calling(named("docs/promises.md", "promises.ts"), uri)
    assert.deepInclude(yield* run(promises), { code: 0, stdout: "pong\nslow\n", stderr: "" })
    server.child.kill("SIGTERM")
    assert.strictEqual(yield* server.ended, 0)
    assert.strictEqual(server.stderr(), "")
  }))

it.live("the Thrift guide's server serves its client, and drains when it is told to", () =>
  Effect.gen(function*() {
    const server = yield* start(placed(named("docs/thrift.md", "server.ts"), "port: 9090", "port: 0"))
    const [, port] = yield* server.line(/listening on tcp:\/\/0\.0\.0\.0:(\d+)\n/)
    placed(named("docs/thrift.md", "live.ts"), "localhost:9090", `localhost:${port}`)
    const { code, stderr, stdout } = yield* run(
      placed(named("docs/thrift.md", "client.ts"), "./live.ts", "./live.run.ts")
    )
    assert.strictEqual(stderr, "")
    assert.strictEqual(code, 0)
    assert.match(stdout, /declared: Refused\n/)
    assert.match(stdout, /hi!\n$/)
    server.child.kill("SIGTERM")
    assert.strictEqual(yield* server.ended, 0)
    assert.strictEqual(server.stderr(), "")
  }))

describe("the tests of the docs", async () => {
  // The tests among the fences are tests of this file.
  const tests = fences.filter(isTest)
  assert.deepStrictEqual(tests.map(({ document }) => document), [
    "docs/balancers.md",
    "docs/discovery.md",
    "docs/discovery.md",
    "docs/http.md",
    "docs/sinks.md",
    "docs/sinks.md",
    "docs/testing.md",
    "docs/testing.md",
    "docs/testing.md",
    "docs/testing.md",
    "docs/testing.md",
    "docs/testing.md",
    "docs/tls.md"
  ])
  for (const { path } of tests) await import(/* @vite-ignore */ path)
})

// What type-checks can still fail to load: generated code has fewer exports than its declarations say.
it.live("what is no program and no test loads", () =>
  Effect.gen(function*() {
    const programs = fences.filter(isProgram).map(({ document }) => document)
    const tried = [
      "README.md",
      "README.md",
      "docs/getting-started.md",
      "docs/promises.md",
      "docs/server.md",
      "docs/thrift.md",
      "docs/thrift.md"
    ]
    assert.deepStrictEqual(programs, tried, "a program that no test runs")
    const loader = writeLoader(fences.filter((fence) => !isProgram(fence) && !isTest(fence)))
    assert.deepInclude(yield* run(loader), { code: 0, stdout: "", stderr: "" })
  }))

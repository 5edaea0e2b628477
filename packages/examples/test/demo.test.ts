/** `npm start`, as somebody runs it who has just cloned the repository, and in the ways that the help text offers. */
import { assert, describe, it } from "@effect/vitest"
import { ThriftMuxServer } from "@scales-rpc/thriftmux"
import { Effect } from "effect"
import { Writable } from "node:stream"
import { stripVTControlCharacters } from "node:util"
import type { Result } from "../src/demo/demo.ts"
import { Latencies } from "../src/demo/latencies.ts"
import { parse } from "../src/demo/options.ts"
import * as Screen from "../src/demo/screen.ts"
import { faults } from "../src/demo/summary.ts"
import * as Tally from "../src/demo/tally.ts"
import { Echo, echoHandlers } from "../src/echo.ts"
import { pathOf, run, start } from "./program.ts"

const demo = pathOf("src/demo/main.ts")
const timeout = 60_000

const lastLine = (text: string) => JSON.parse(text.trimEnd().split("\n").at(-1)!)

describe("npm start", () => {
  it.live("kills a server, takes it back, and accounts for every call", () =>
    Effect.gen(function*() {
      const { code, stderr, stdout } = yield* run(demo, ["--seconds", "3", "--servers", "3", "--json"])
      assert.strictEqual(stderr, "")
      assert.strictEqual(code, 0, stdout)
      const { calls, failed, leakedLoads, leakedTags, ok, recoveredMs, wrong } = lastLine(stdout)
      assert.isAbove(ok, 100)
      assert.deepStrictEqual({ wrong, leakedTags, leakedLoads }, { wrong: 0, leakedTags: 0, leakedLoads: 0 })
      assert.isNumber(recoveredMs)
      // With two servers left, nothing fails but what the killed one had.
      const { ConnectionClosed = 0, ...others } = failed
      assert.deepStrictEqual(others, {})
      assert.isAtMost(ConnectionClosed, 64)
      assert.strictEqual(calls, ok + ConnectionClosed)

      // No terminal: a line for each event and each second, and none of a terminal's escapes.
      assert.notInclude(stdout, "\x1b")
      const events = [
        "server 1 is killed",
        "server 1 is started again",
        "server 1 answers again",
        "server 2 takes 50 ms longer"
      ]
      let at = 0
      for (const event of events) {
        const found = stdout.indexOf(event, at)
        assert.isAtLeast(found, at, `${event}\n${stdout}`)
        at = found
      }
      assert.match(stdout, /^ +\d\.\d s {2}[\d,]+ calls, [\d,]+ ok/m)
      assert.match(stdout, /Nothing leaked/)
    }), timeout)

  it.live("calls servers that are there already", () =>
    Effect.gen(function*() {
      const one = yield* ThriftMuxServer.make(Echo, echoHandlers())
      const other = yield* ThriftMuxServer.make(Echo, echoHandlers())
      const { code, stderr, stdout } = yield* run(demo, [
        "--uri",
        `tcp://127.0.0.1:${one.address.port},127.0.0.1:${other.address.port}`,
        "--seconds",
        "1",
        "--callers",
        "64",
        "--json"
      ])
      assert.strictEqual(stderr, "")
      assert.strictEqual(code, 0, stdout)
      const { calls, failed, ok, recoveredMs } = lastLine(stdout)
      assert.deepStrictEqual(failed, {})
      assert.strictEqual(ok, calls)
      assert.isNull(recoveredMs)
      // It has asked these and no others, and has left nothing on them.
      assert.strictEqual(one.counts.requests + other.counts.requests, calls)
      assert.isAbove(Math.min(one.counts.requests, other.counts.requests), 0)
      assert.strictEqual(one.outstanding() + other.outstanding(), 0)
    }), timeout)

  it.live("gets over the loss of its only server", () =>
    Effect.gen(function*() {
      const { code, stdout } = yield* run(demo, ["--seconds", "1", "--servers", "1", "--callers", "8", "--json"])
      assert.strictEqual(code, 0, stdout)
      const { failed, leakedTags, ok, recoveredMs, wrong } = lastLine(stdout)
      assert.isAbove(ok, 0)
      // Nothing else was there: calls fail fast meanwhile, and none waits in vain.
      assert.isAbove(failed.FastFailure, 0)
      assert.isNumber(recoveredMs)
      assert.deepStrictEqual({ wrong, leakedTags }, { wrong: 0, leakedTags: 0 })
    }), timeout)

  // That it has ended means that all who write to its output have: its servers do.
  it.live("takes its servers along when it is interrupted", () =>
    Effect.gen(function*() {
      const { child, ended, line } = yield* start(demo, ["--servers", "2", "--seconds", "1", "--callers", "1"])
      yield* line(/server 1 is killed/)
      child.kill("SIGINT")
      assert.strictEqual(yield* Effect.timeout(ended, "10 seconds"), 130)
    }), timeout)

  it.live("leaves none of them behind when it is killed while they start", () =>
    Effect.gen(function*() {
      const { child, ended, line } = yield* start(demo, ["--servers", "1"])
      yield* line(/^ThriftMux/)
      child.kill("SIGKILL")
      assert.strictEqual(yield* Effect.timeout(ended, "10 seconds"), "SIGKILL")
    }), timeout)

  it.live("says what is wrong with an option, and what there is", () =>
    Effect.gen(function*() {
      const wrong = yield* run(demo, ["--seconds", "0"])
      assert.strictEqual(wrong.code, 2)
      assert.strictEqual(wrong.stdout, "")
      assert.match(wrong.stderr, /^--seconds takes a whole number from 1 to 3600, not "0"\n\nUsage: npm start/)
      const uri = yield* run(demo, ["--uri", "localhost:8080"])
      assert.strictEqual(uri.code, 1)
      assert.match(uri.stderr, /^invalid URI "localhost:8080": it has no scheme/)
    }), timeout)
})

it.effect("reads its command line", () =>
  Effect.gen(function*() {
    assert.deepStrictEqual(yield* parse([]), { seconds: 10, servers: 5, callers: 64, json: false, uri: undefined })
    assert.strictEqual(yield* parse(["--help"]), "help")
    for (
      const [args, message] of [
        [["--servers", "51"], /--servers takes a whole number from 1 to 50, not "51"/],
        [["--callers", "1.5"], /--callers takes a whole number from 1 to 10000, not "1.5"/],
        [["--callers", " "], /--callers takes/],
        [["--bogus"], /Unknown option '--bogus'/],
        [["now"], /Unexpected argument 'now'/]
      ] as const
    ) {
      assert.match((yield* Effect.flip(parse(args))).message, message)
    }
  }))

it("calls no run good that lost, leaked or misread something", () => {
  const good: Result = {
    tally: { ...Tally.make(), calls: 2, ok: 2 },
    seconds: 1,
    last: { endpoints: [], tags: 0, loads: 0, outstanding: 0, requeues: 0 },
    met: { recoveredMs: 5 },
    final: { seconds: 1, period: "", calls: 2, ok: 2, failed: {}, rows: [] }
  }
  assert.deepStrictEqual(faults(good), [])
  assert.deepStrictEqual(faults({ ...good, met: undefined }), [])
  const { last, tally } = good
  for (
    const bad of [
      { ...good, tally: { ...tally, ok: 0 } },
      { ...good, tally: { ...tally, wrong: 1 } },
      { ...good, last: { ...last, tags: 1 } },
      { ...good, last: { ...last, loads: 1 } },
      { ...good, last: { ...last, outstanding: 1 } },
      { ...good, met: { recoveredMs: undefined } }
    ]
  ) assert.lengthOf(faults(bad), 1)
})

it("redraws a table that is no larger than the terminal", () => {
  let written = ""
  const sink = new Writable({
    write: (chunk, _encoding, done) => {
      written += String(chunk)
      done()
    }
  })
  const out = Object.assign(sink, { isTTY: true, rows: 24, columns: 60 })
  const screen = Screen.on(out as unknown as NodeJS.WriteStream, "title")
  const row = { endpoint: "a:1", state: "Open", outstanding: 1, calls: 2, callsPerSecond: 3, p50: 4, p99: undefined }
  const frame = {
    seconds: 1,
    period: "a second",
    calls: 2,
    ok: 2,
    failed: {},
    rows: Array.from({ length: 50 }, () => row)
  }
  for (let i = 0; i < 10; i++) screen.event(i, `event ${i}`)
  screen.show(frame)
  written = ""
  screen.show(frame)
  // As many lines up as are drawn again; below them is the cursor's.
  const lines = written.split("\n")
  assert.include(written, `\x1b[${lines.length - 1}A`)
  assert.strictEqual(lines.length, 24)
  for (const line of lines) assert.isAtMost(stripVTControlCharacters(line).length, 60)
  assert.match(written, /and 37 more/)
  assert.match(written, /event 9/)
  written = ""
  screen.end(frame, ["a summary that is longer than the terminal is wide, and is not cut off for that"])
  assert.notMatch(written, / more\n/)
  assert.match(written, /event 0[^]*event 9[^]* not cut off for that\n$/)
})

it("counts latencies to five percent", () => {
  const latencies = new Latencies()
  assert.isUndefined(latencies.percentile(0.5))
  for (let millis = 1; millis <= 1000; millis++) latencies.add(millis)
  assert.approximately(latencies.percentile(0.5)!, 500, 25)
  assert.approximately(latencies.percentile(0.99)!, 990, 50)
  latencies.add(0)
  latencies.add(1e9)
  assert.strictEqual(latencies.count, 1002)
  assert.isAbove(latencies.percentile(1)!, 20_000)
})

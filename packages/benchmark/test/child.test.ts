// Clients and servers in processes of their own: what they are asked, and how they fail.
import { afterEach, assert, describe, it } from "vitest"
import { Child, cpuOf, nodeProgram, type Program } from "../src/Child.ts"
import { startProcesses } from "../src/rounds.ts"

/** A program of a few words, which answers each line with what `answer` says. */
const scripted = (answer: string, ready = `{"_tag":"Ready","ports":[]}`): Program => ({
  command: process.execPath,
  args: [
    "--eval",
    `console.log(${JSON.stringify(ready)})
     require("node:readline").createInterface({ input: process.stdin }).on("line", (line) => { ${answer} })`
  ]
})

const running = new Set<Child>()

afterEach(async () => {
  for (const child of running) await child.stop()
  running.clear()
})

const start = async (program: Program) => {
  const started = await Child.start("the child", program)
  running.add(started.child)
  return started
}

const failure = (promise: Promise<unknown>) => promise.then(() => "none", (error: unknown) => String(error))

describe("a client of ours against a server of ours", () => {
  it("answers every question about its calls", async () => {
    const { ports } = await start(nodeProgram({ _tag: "Server", name: "mux", count: 2 }))
    assert.strictEqual(ports.length, 2)
    const { child } = await start(nodeProgram({ _tag: "Client", name: "floor", ports }))

    const sample = await child.measure(8, 86, 100)
    assert.isAbove(cpuOf(sample), 0)
    assert.isAbove(sample.callsPerSecond, 0)

    const closed = await child.closed(1, 4096, 100)
    assert.isAbove(closed.calls, 0)
    assert.isAbove(closed.p50, 0)
    assert.isAtLeast(closed.p999, closed.p99)
    assert.isAtLeast(closed.p99, closed.p50)

    // Forty milliseconds before the first one that is timed; both ends of the window are in it.
    assert.strictEqual((await child.open(500, 86, 100)).calls, 51)

    const { allocatedBytes, residentBytes } = await child.memory(8, 86, 200)
    // The reply alone takes some hundred; what it was read from, and megabytes, it does not.
    assert.isAbove(allocatedBytes!, 100)
    assert.isBelow(allocatedBytes!, 1_000_000)
    assert.isAbove(residentBytes!, 10_000_000)
  })

  it("fails its questions when a server goes away", async () => {
    const { child: server, ports } = await start(nodeProgram({ _tag: "Server", name: "mux", count: 1 }))
    const { child: client } = await start(nodeProgram({ _tag: "Client", name: "floor", ports }))
    await client.measure(1, 86, 20)
    const asked = failure(client.measure(1, 86, 10_000))
    await server.stop()
    assert.match(await asked, /the server closed the connection|ECONNRESET/)
  })
})

describe("a child", () => {
  it("that logs on its stdout still answers", async () => {
    const { child } = await start(scripted(`
      console.log("[12:00:00] WARN: endpoint down {")
      console.log(JSON.stringify({ _tag: "Sampled", sample: { userMicros: 1, systemMicros: 2, callsPerSecond: 3 } }))
    `))
    assert.strictEqual(cpuOf(await child.measure(1, 86, 1)), 3)
  })

  it("that cannot do what it is asked says so", async () => {
    const { child } = await start(scripted(`console.log('{"_tag": "Failed", "error": "wrong reply"}')`))
    assert.match(await failure(child.measure(1, 86, 1)), /the child: wrong reply/)
    assert.match(await failure(child.measure(1, 86, 1)), /the child: wrong reply/)
  })

  it("that answers another question is not believed", async () => {
    const { child } = await start(scripted(`console.log('{"_tag":"Done"}')`))
    assert.match(await failure(child.measure(1, 86, 1)), /the child answered Done to another question/)
  })

  it("that ends fails what it was asked", async () => {
    const { child } = await start(scripted("process.exit(3)"))
    assert.match(await failure(child.measure(1, 86, 1)), /the child ended with code 3/)
  })

  it("that does not start fails its start", async () => {
    const ends = { command: process.execPath, args: ["--eval", "process.exitCode = 4"] }
    assert.match(await failure(Child.start("the child", ends)), /the child ended with code 4/)
    assert.match(await failure(Child.start("the child", { command: "no-such-program", args: [] })), /ENOENT/)
  })

  it("is asked to end, and is ended if it does not", async () => {
    const willing = await Child.start("the child", scripted("if (JSON.parse(line)._tag === 'Close') process.exit()"))
    await willing.child.stop()
    const unwilling = await Child.start("the child", scripted("setInterval(() => {}, 1000)"))
    await unwilling.child.stop()
    assert.match(await failure(unwilling.child.measure(1, 86, 1)), /the child ended with SIGKILL/)
  })
})

describe("the processes of a start", () => {
  it("are clients with a server of their own, or as many as are asked for", async () => {
    const { clients, stop } = await startProcesses(["floor", "ours", "oursHttp"], 2)
    for (const client of clients.values()) assert.isAbove((await client.measure(4, 86, 20)).callsPerSecond, 0)
    await stop()
    for (const client of clients.values()) assert.match(await failure(client.measure(1, 86, 1)), /ended with code 0/)
  })

  it("fail together when one of them cannot be started", async () => {
    assert.match(await failure(startProcesses(["floor", "ours"], 0)), /the client ours: .*InvalidUri/)
  })
})

// Every client answers a call through the server that it is measured with, and every reply is looked at.
import * as thrift from "thrift"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { callOnce, type Client, Load } from "../src/Load.ts"
import { openLoop } from "../src/openLoop.ts"
import { nodeClientNames, nodeClients, type ServerName, servers } from "../src/peers.ts"
import type { Server } from "../src/servers/Server.ts"
import { json, Message, type Reply, type Work, workOf } from "../src/workload.ts"

const running = new Map<ServerName, Server>()

beforeAll(async () => {
  for (const name of Object.keys(servers) as Array<ServerName>) running.set(name, await servers[name](4))
})

afterAll(async () => {
  for (const server of running.values()) await server.close()
})

/** Work of which every reply is wrong. */
const hopeless: Work = { ...workOf(86), wrongIn: () => "everything" }

describe.each(nodeClientNames)("%s", (name) => {
  const { connect, server, servers: count } = nodeClients[name]
  const using = async (f: (client: Client) => Promise<void>, endpoints = count) => {
    const client = await connect(...running.get(server)!.ports.slice(0, endpoints) as [number, ...Array<number>])
    try {
      await f(client)
    } finally {
      await client.close()
    }
  }

  it("answers one call", () => using(callOnce))

  it("keeps calls in flight until it is told to stop", () =>
    using(async (client) => {
      const load = new Load()
      const end = load.end
      const few: Load = Object.assign(load, {
        end: (began: number, reply: Reply) => {
          end(began, reply)
          if (load.replies === 100) load.stop()
        }
      })
      await client.drive(8, few)
      // Each loop has one call under way when the load is stopped.
      assert.isAtLeast(load.replies, 100)
      assert.isAtMost(load.replies, 107)
    }))

  it("fails when a reply is wrong", () =>
    using(async (client) => {
      const error = await client.drive(2, new Load(hopeless)).then(() => undefined, (error: unknown) => error)
      assert.match(String(error), /wrong reply: everything/)
    }))

  it("answers calls that begin at a fixed rate", () =>
    using(async (client) => {
      const timed = await openLoop(client, workOf(86), { rate: 1000, settleMillis: 0, millis: 20 })
      assert.strictEqual(timed.calls, 21)
      assert.isAtLeast(timed.p999, timed.p50)
    }))

  // A GET has no payload.
  if (server !== "http" || name === "undiciJson") {
    it.each([4096, 1_048_576] as const)(
      "answers a call of %s bytes",
      (payload) => using((client) => callOnce(client, workOf(payload)))
    )
  }

  if (server === "mux") {
    it("calls several servers", () =>
      using(async (client) => {
        for (let i = 0; i < 8; i++) await callOnce(client)
      }, 4))
  }
})

describe("a reply", () => {
  const { message, plain, wrongIn } = workOf(86)
  const like = (changes: Partial<Message>) => wrongIn(new Message({ ...message, ...changes }))

  it("is right when it is the argument, in any of its forms", () => {
    assert.isUndefined(like({}))
    assert.isUndefined(wrongIn(json))
    assert.isUndefined(wrongIn(plain))
  })

  it("is wrong with another text, number, or items", () => {
    assert.match(String(like({ text: "hello" })), /text/)
    assert.match(String(like({ number: new thrift.Int64(13) })), /number/)
    assert.match(String(wrongIn({ ...plain, number: 13 })), /number/)
    assert.match(String(like({ items: [1, 2, 3] })), /3 items/)
    assert.match(String(like({ items: [1, 2, 3, 5] })), /item 3/)
    assert.match(String(wrongIn(json.slice(1))), /body/)
  })

  it("is wrong when it is another payload's", () => {
    assert.match(String(wrongIn(workOf(4096).plain)), /text is "hello world .*\.\.\."/)
  })
})

describe("a payload", () => {
  it("is as long as it says, but for what is 86 bytes in the smallest", () => {
    const length = (payload: 86 | 4096 | 1_048_576) => workOf(payload).json.length
    assert.strictEqual(length(4096) - length(86), 4096 - 86)
    assert.strictEqual(length(1_048_576) - length(86), 1_048_576 - 86)
  })
})

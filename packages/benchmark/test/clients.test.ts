// Every client answers a call through the server that it is measured with, and every reply is looked at.
import * as thrift from "thrift"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { callOnce, type Client, Load } from "../src/Load.ts"
import { clientNames, clients, type ServerName, servers } from "../src/peers.ts"
import type { Server } from "../src/servers/Server.ts"
import { json, Message, message, wrongIn } from "../src/workload.ts"

const running = new Map<ServerName, Server>()

beforeAll(async () => {
  for (const name of Object.keys(servers) as Array<ServerName>) running.set(name, await servers[name]())
})

afterAll(async () => {
  for (const server of running.values()) await server.close()
})

describe.each(clientNames)("%s", (name) => {
  const { connect, server, servers: count } = clients[name]
  const using = async (f: (client: Client) => Promise<void>) => {
    const client = await connect(...running.get(server)!.ports.slice(0, count) as [number, ...Array<number>])
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
      const accept = load.accept
      const few: Load = Object.assign(load, {
        accept: (reply: Message) => {
          accept(reply)
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
      const load = Object.assign(new Load(), {
        accept: () => {
          throw new Error("wrong reply")
        }
      })
      const error = await client.drive(2, load).then(() => undefined, (error: unknown) => error)
      assert.match(String(error), /wrong reply/)
    }))
})

describe("a reply", () => {
  const like = (changes: Partial<Message>) => wrongIn(new Message({ ...message, ...changes }))

  it("is right when it is the argument, or its JSON", () => {
    assert.isUndefined(like({}))
    assert.isUndefined(wrongIn(json))
  })

  it("is wrong with another text, number, or items", () => {
    assert.match(String(like({ text: "hello" })), /text/)
    assert.match(String(like({ number: new thrift.Int64(13) })), /number/)
    assert.match(String(like({ items: [1, 2, 3] })), /3 items/)
    assert.match(String(like({ items: [1, 2, 3, 5] })), /item 3/)
    assert.match(String(wrongIn(json.slice(1))), /body/)
  })
})

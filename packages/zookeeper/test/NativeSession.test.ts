import { assert, it } from "@effect/vitest"
import { spawn, spawnSync } from "node:child_process"
import { createServer, type Socket } from "node:net"
import type { AddressInfo } from "node:net"
import { dirname } from "node:path"
import { fileURLToPath } from "node:url"

const here = dirname(fileURLToPath(import.meta.url))
const loads =
  spawnSync(process.execPath, ["--eval", "require(\"zookeeper\")"], { cwd: here, stdio: "ignore" }).status === 0
if (!loads) console.warn("skipped: the addon of the package zookeeper does not load; npm install builds it")

/** A program of its own, so that what keeps or ends a process is seen. */
const program = `
  import * as Context from "effect/Context"
  import * as Effect from "effect/Effect"
  import * as Exit from "effect/Exit"
  import * as Layer from "effect/Layer"
  import * as Scope from "effect/Scope"
  import { ZooKeeper } from "@scales-rpc/zookeeper"
  const [connect, millis] = process.argv.slice(1)
  const scope = Scope.makeUnsafe()
  const lookup = () => Effect.fail(new Error("no such name"))
  const layer = ZooKeeper.layer({ sessionTimeout: 3000, connectTimeout: 300, lookup })
  const context = await Effect.runPromise(Layer.buildWithScope(layer, scope))
  const { session } = Context.get(context, ZooKeeper)
  const made = await Effect.runPromise(Scope.provide(session(connect), scope))
  let causes = 0
  made.subscribe(({ cause }) => cause === undefined || causes++)
  const read = Effect.runPromise(Effect.flip(made.get("/")))
  await new Promise((resolve) => setTimeout(resolve, Number(millis)))
  const { state } = made.status()
  await Effect.runPromise(Scope.close(scope, Exit.void))
  const active = () => process.getActiveResourcesInfo().filter((name) => /TCP|Timeout|Poll/.test(name))
  console.log(JSON.stringify({ state, retried: causes > 1, read: (await read)._tag, after: made.status().state, active: active() }))
`

const run = (connect: string, millis: number) =>
  new Promise<{ readonly code: number | null; readonly out: unknown }>((resolve) => {
    const child = spawn(
      process.execPath,
      ["--conditions=@scales-rpc/source", "--input-type=module", "--eval", program, connect, String(millis)],
      { cwd: here, stdio: ["ignore", "pipe", "pipe"] }
    )
    let out = ""
    let error = ""
    child.stdout.on("data", (chunk) => (out += chunk))
    child.stderr.on("data", (chunk) => (error += chunk))
    child.on("close", (code) => {
      const result = /^\{"state".*$/m.exec(out)?.[0]
      const told = out.includes("WARN") && out.includes("ZooKeeper cannot be reached")
      resolve({ code, out: result === undefined ? out + error : { ...JSON.parse(result), told } })
    })
  })

const listen = (serve: (socket: Socket) => void) =>
  new Promise<{ readonly connect: string; readonly close: () => void }>((resolve) => {
    const sockets = new Set<Socket>()
    const server = createServer((socket) => {
      sockets.add(socket)
      socket.on("error", () => {})
      serve(socket)
    }).listen(0, "127.0.0.1", () =>
      resolve({
        connect: `127.0.0.1:${(server.address() as AddressInfo).port}`,
        close: () => {
          for (const socket of sockets) socket.destroy()
          server.close()
        }
      }))
  })

const untouched = { state: "Connecting", retried: true, read: "SessionClosed", after: "Closed", active: [], told: true }

it.skipIf(!loads)(
  "servers that refuse are tried again, and the program ends by itself once the scope is closed",
  async () => {
    const { close, connect } = await listen(() => {})
    close()
    assert.deepStrictEqual(await run(connect, 1500), { code: 0, out: untouched })
  }
)

it.skipIf(!loads)("names that cannot be resolved are looked up again", async () => {
  assert.deepStrictEqual(await run("nowhere.invalid", 1500), { code: 0, out: untouched })
})

it.skipIf(!loads)("no answer, none that is ZooKeeper's, and connections cut at once end no process", async () => {
  const servers = await Promise.all([
    listen(() => {}),
    listen((socket) => socket.destroy()),
    listen((socket) => socket.on("data", () => socket.end("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")))
  ])
  for (const ended of await Promise.all(servers.map(({ connect }) => run(connect, 2000)))) {
    assert.deepStrictEqual(ended, { code: 0, out: untouched })
  }
  for (const { close } of servers) close()
}, 60_000)

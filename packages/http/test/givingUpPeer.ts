// A client in a process of its own, which gives up requests with bodies over HTTP/2 at every moment: `node givingUpPeer.ts PORT BYTES`.
import { Http, HttpBody, HttpService } from "@scales-rpc/http"
import { Effect, Fiber } from "effect"

class Users extends HttpService<Users>()("Users") {}

const [, , port, bytes] = process.argv
const body = HttpBody.bytes(new Uint8Array(Number(bytes)))

const program = Effect.gen(function*() {
  const users = yield* Users
  for (let i = 0; i < 50; i++) {
    const fiber = yield* Effect.forkChild(Effect.exit(users.post("/", { body })), { startImmediately: true })
    yield* Effect.sleep(i % 7)
    yield* Fiber.interrupt(fiber)
  }
  const reply = yield* users.get("/")
  console.log("answered", reply.status)
})

await Effect.runPromise(Effect.provide(program, Http.layer(Users, { uri: `tcp://127.0.0.1:${port}`, http2: true })))

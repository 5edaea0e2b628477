/** Ports of 127.0.0.1 for servers that come back on the port they had. */
import * as Effect from "effect/Effect"
import * as Net from "node:net"

/** Below those that systems give to outgoing connections (Linux: from 32768): while a server is down, nobody is given its port. */
const range = { from: 20_000, to: 32_000 }

/** Where this process begins to look: another at work beside it begins elsewhere. */
let next = range.from + (process.pid * 61) % (range.to - range.from)

const free = (port: number) =>
  Effect.callback<boolean>((resume) => {
    const server = Net.createServer()
    server.on("error", () => resume(Effect.succeed(false)))
    server.listen({ port, host: "127.0.0.1", exclusive: true }, () => server.close(() => resume(Effect.succeed(true))))
  })

/** A port that nobody listens on and that was not given before. */
export const unused: Effect.Effect<number> = Effect.suspend(() => {
  const port = next++
  if (next >= range.to) next = range.from
  return Effect.flatMap(free(port), (yes) => yes ? Effect.succeed(port) : unused)
})

/**
 * nginx as a peer: `run.ts COMMAND FOLDER` runs it on the `nginx.conf` of a folder until stdin ends. `reload` reads the configuration anew
 * with new workers, and is answered when the old ones have gone: they let go of idle connections at once, of others with their next response.
 */
import { spawn } from "node:child_process"
import { createInterface } from "node:readline"
import { commands, say } from "../../Console.ts"

/** As many as `nginx.conf` says. */
const workers = 2

const [command, folder] = process.argv.slice(2) as [string, string]
const nginx = spawn(command, ["-p", folder, "-c", "nginx.conf", "-e", "stderr"], {
  stdio: ["ignore", "inherit", "pipe"]
})
const stopped = new Promise<void>((resolve) => nginx.once("close", () => resolve()))
let stopping = false
nginx.on("error", (error) => {
  console.error(error.message)
  process.exit(1)
})
nginx.once("exit", () => {
  if (!stopping) process.exit(1)
})

/** It logs what becomes of its workers. */
let running = 0
let leaving = 0
let left: (() => void) | undefined
createInterface({ input: nginx.stderr }).on("line", (line) => {
  if (/\[(warn|error|crit|alert|emerg)\]/.test(line)) console.error(line)
  if (/ start worker process \d+$/.test(line) && ++running === workers) say("READY")
  if (/ worker process \d+ exited /.test(line) && --leaving === 0) left?.()
})

await commands(async (id, [word]) => {
  if (word !== "reload") return say("ERROR", { id, message: `no command ${word}` })
  leaving = workers
  await new Promise<void>((resolve) => {
    left = resolve
    nginx.kill("SIGHUP")
  })
  say("OK", { id })
}, async () => {
  stopping = true
  nginx.kill("SIGTERM")
  await stopped
})

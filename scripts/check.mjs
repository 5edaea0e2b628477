// Format, lint and types over everything, side by side; says what failed and how to mend it.
import { spawn } from "node:child_process"

const run = (name, command, args, hint) =>
  new Promise((resolve) => {
    const started = performance.now()
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] })
    let output = ""
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += chunk))
    child.on("error", (error) => (output += `${error.message}\n`))
    child.on("close", (code) => {
      console.log(`${code === 0 ? "ok    " : "FAILED"} ${name} (${Math.round(performance.now() - started)} ms)`)
      if (code !== 0) console.log(`${output.trimEnd()}\n${hint}`)
      resolve(code === 0)
    })
  })

const results = await Promise.all([
  run("format", "dprint", ["check"], "mend with: npm run format"),
  run("lint", "oxlint", ["--type-aware", "--deny-warnings"], ""),
  run("types", "tsc", ["-p", "tsconfig.json"], "")
])
process.exit(results.every(Boolean) ? 0 : 1)

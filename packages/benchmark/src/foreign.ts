/** The peers that are not Node programs: what they need, and how their clients are started. */
import * as Effect from "effect/Effect"
import { fileURLToPath } from "node:url"
import * as Finagle from "../../interop/src/Finagle.ts"
import * as Maven from "../../interop/src/Maven.ts"
import * as Python from "../../interop/src/Python.ts"
import type { BuildFailed, Missing } from "../../interop/src/Toolchain.ts"
import type { Program } from "./Child.ts"

/** Built and installed once. Gives in words what is missing on this machine, and how to get it. */
type Prepare = () => Promise<string | undefined>

const prepared = (prepare: Effect.Effect<void, Missing | BuildFailed>): Prepare => () =>
  Effect.runPromise(
    prepare.pipe(
      Effect.as(undefined),
      Effect.catchTags({
        Missing: ({ what }) => Effect.succeed(what),
        BuildFailed: ({ output, what }) => Effect.succeed(`${what} failed: ${output.trimEnd().split("\n").at(-1)}`)
      })
    )
  )

/** A client that is a program of its own. */
export interface Foreign {
  readonly prepare: Prepare
  readonly program: (ports: ReadonlyArray<number>) => Program
}

const tm22 = Finagle.folder("tm22")

/** On the JVM's own defaults, unlike in tests, where the optimizing compiler would only be late. */
const finagleWith = (...flags: ReadonlyArray<string>): Foreign => ({
  prepare: prepared(Maven.prepare([tm22])),
  program: (ports) => ({
    command: "java",
    args: ["-cp", "target/classes:target/lib/*", "Main", "load-client", ports.join(","), ...flags],
    cwd: tm22
  })
})

/** Finagle's ThriftMux client 22.7.0, which records its calls as a program in production has it do: with finagle-stats. */
export const finagle: Foreign = finagleWith("--finagle-stats")

/** The same with nothing recorded. */
export const finagleQuiet: Foreign = finagleWith()

const python = fileURLToPath(new URL("../python", import.meta.url))

/** Scales as it was published last with what it imports: of them the newest, and of thrift the one whose codec is in C. */
const packages = [
  "scales-rpc==2.0.1",
  "thrift==0.24.0",
  "gevent==26.9.0",
  "greenlet==3.5.6",
  "kazoo==2.11.0",
  "six==1.17.0",
  "zope.interface==8.7"
]

/** Scales for Python, but for one thing that is mended (`../python/scales_client.py` says which): it would make a call slower for ever. */
export const scalesPython: Foreign = {
  prepare: prepared(Python.prepare(python, packages)),
  program: (ports) => Python.program("Scales", python, packages, ["scales_client.py", ...ports.map(String)])
}

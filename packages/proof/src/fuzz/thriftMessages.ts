/** The Thrift messages that the decoders of Thrift are attacked with. */
import { fromGenerated, type Protocol } from "@scales-rpc/thrift"
import { createRequire } from "node:module"

const require = createRequire(import.meta.url)

/** Services from generated code: a plain one, and one that uses every type. */
export const echo = fromGenerated(require("../../../thrift/test/gen24/Echo.js"))
export const wide = fromGenerated(require("../../../thrift/test/gen24/Wide.js"))
/** Every method of both. */
export const methods = [...echo.methods.values(), ...wide.methods.values()]

/** Calls and replies of them, as a protocol writes them. */
export const thriftMessages = (protocol: Protocol): ReadonlyArray<Uint8Array> => {
  const { Message } = require("../../../thrift/test/gen24/echo_types.js")
  const types = require("../../../thrift/test/gen24/wide_types.js")
  const base = require("../../../thrift/test/gen24/base_types.js")
  const writer = protocol.writer()
  const corpus: Array<Uint8Array> = []
  const add = (service: typeof echo, name: string, args: ReadonlyArray<unknown>, result: unknown) => {
    const method = service.methods.get(name)!
    method.encodeCall(1, args, writer)
    corpus.push(Uint8Array.from(writer.take()))
    if (method.oneway) return
    method.encodeResult(1, result, writer)
    corpus.push(Uint8Array.from(writer.take()))
  }
  const message = new Message({ text: "hello world hello world", number: 12, items: [1, 2, 3, 4] })
  add(echo, "passMessage", [message], message)
  add(echo, "ping", [], "pong")
  add(echo, "index", [{ a: [1, 2] }, ["x", "y"], 0.5, true, 1, 2], { a: [1, 2] })
  const Tree = types.Tree ?? base.Tree
  const tree = new Tree({ value: 1, rest: [new Tree({ value: 2, rest: [new Tree({ value: 3, rest: [] })] })] })
  add(wide, "tree", [tree], tree)
  const scalars = new types.Scalars({
    flag: true,
    tiny: -1,
    small: 300,
    medium: -70_000,
    large: 5,
    real: -1.5e-7,
    text: "\"\\\n é \ud83d\udc4b",
    bytes: Buffer.from("bytes"),
    level: 10
  })
  const containers = new types.Containers({
    grid: [[1, 2], []],
    byName: { one: scalars },
    byNumber: { "-5": "five" },
    byId: { 9: "nine" },
    deep: { k: [[1, 2], []] },
    flags: [true, false],
    reals: [0.1, Infinity],
    blobs: [Buffer.from("b")],
    byFlag: { true: "yes" },
    byReal: { "1.5": "one" }
  })
  add(wide, "containers", [containers], containers)
  return corpus
}

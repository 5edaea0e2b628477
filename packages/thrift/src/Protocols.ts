/** The protocols by name, as clients and servers take them. */
import { BinaryReader } from "./BinaryReader.ts"
import { BinaryWriter } from "./BinaryWriter.ts"
import { CompactReader } from "./CompactReader.ts"
import { CompactWriter } from "./CompactWriter.ts"
import { JsonReader } from "./JsonReader.ts"
import { JsonWriter } from "./JsonWriter.ts"
import type { Protocol } from "./Protocol.ts"

/** The binary protocol, the default of every client and server. Reads the old header too, and writes the one with a version. */
export const binary: Protocol = {
  name: "binary",
  reader: (limits) => new BinaryReader(limits),
  writer: (options) => new BinaryWriter(options)
}

/** The binary protocol for peers that know the old header only, the one without a version; both are read. */
export const binaryOld: Protocol = {
  name: "binary, old",
  reader: (limits) => new BinaryReader(limits),
  writer: (options) => new BinaryWriter({ ...options, strictWrite: false })
}

/** The compact protocol, Apache's `TCompactProtocol`. */
export const compact: Protocol = {
  name: "compact",
  reader: (limits) => new CompactReader(limits),
  writer: (options) => new CompactWriter(options)
}

/** The JSON protocol, Apache's `TJSONProtocol`; not its simple JSON, which cannot be read. */
export const json: Protocol = {
  name: "json",
  reader: (limits) => new JsonReader(limits),
  writer: (options) => new JsonWriter(options)
}

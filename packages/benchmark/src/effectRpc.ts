/**
 * The struct and its call for both sides of Effect's own rpc, over a TCP socket. Of its serializations the binary one is taken, which costs a
 * call less than JSON in lines does.
 */
import * as Schema from "effect/Schema"
import * as Rpc from "effect/rpc/Rpc"
import * as RpcGroup from "effect/rpc/RpcGroup"
import * as RpcSerialization from "effect/rpc/RpcSerialization"

const Struct = Schema.Struct({
  text: Schema.String,
  number: Schema.Int,
  items: Schema.Array(Schema.Int)
})

/** The one call: it answers its argument. */
export const Echo = RpcGroup.make(Rpc.make("passMessage", { payload: Struct, success: Struct }))

/** What both sides speak. */
export const serialization = RpcSerialization.layerSchemaBinary()

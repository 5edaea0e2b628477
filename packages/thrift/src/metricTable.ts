/** The series that Thrift clients, their plain connections and Thrift servers have beside those of every transport and server. */
import { Metrics } from "@scales-rpc/core"

const { counter, gauge } = Metrics

/** By name. */
export const table = Metrics.table({
  "scales.thrift.request_payload_bytes": counter("bytes of requests as they were written, over any wire", "service"),
  "scales.thrift.response_payload_bytes": counter("bytes of replies as they came, over any wire", "service"),
  "scales.thrift.serialization_failures": counter("calls whose arguments could not be written", "service"),
  "scales.thrift.deserialization_failures": counter("calls whose reply could not be read", "service"),
  "scales.thrift.calls": counter("requests given to plain connections"),
  "scales.thrift.busy": gauge("plain connections that have a call"),
  "scales.thrift.abandoned": counter("plain connections ended because nobody waited any more for the call on them"),
  "scales.thrift.idle_closed": counter("plain connections that ended while they were idle"),
  "scales.thrift.protocol_errors": counter("plain connections ended because the server did not keep to the protocol"),
  "scales.thrift.upgrades": counter("plain connections whose server knows Twitter's upgrade"),
  "scales.thrift_server.outstanding": gauge(
    "requests that have not been answered, in all connections and of those that are gone"
  ),
  "scales.thrift_server.upgrades": counter("connections whose client asked for Twitter's upgrade"),
  "scales.thrift_server.oversized": counter("connections ended because of a message over the limit"),
  "scales.thrift_server.undecodable": counter("connections ended because of bytes that are no Thrift, or no call"),
  "scales.thrift_server.idle_closed": counter("connections closed because nothing happened on them")
})

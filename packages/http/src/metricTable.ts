/** Every series of this package: what the table in the documentation is made of. */
import { Metrics } from "@scales-rpc/core"

const { counter, gauge } = Metrics

/**
 * By name. A request is one attempt at one endpoint: a call that is sent again has several. `protocol` is `http/1.1` or `h2`. Connections are
 * counted as those of every protocol are, in `scales.transport`.
 */
export const table = Metrics.table({
  "scales.http.requests": counter("requests given to a connection", "protocol"),
  "scales.http.pending": gauge("requests that have not ended, bodies of their responses included", "protocol"),
  "scales.http.responses": counter(
    "heads of responses by class of their status: 1xx to 5xx, or other; one with 1xx comes before another",
    "protocol",
    "class"
  ),
  "scales.http.failures": counter(
    "requests that failed on their connection, by the tag of the error",
    "protocol",
    "error"
  ),
  "scales.http.abandoned": counter(
    "requests that nobody waited for any more when they were on a connection, for want of time or else",
    "protocol"
  ),
  "scales.http.stale": counter(
    "requests that were not sent because their connection had ended: they go to another",
    "protocol"
  ),
  "scales.http.nacks": counter(
    "responses that said with 503 that the request was not run, by whether it may be sent again",
    "protocol",
    "retryable"
  ),
  "scales.http.truncated": counter("responses that had more bytes than their call takes", "protocol"),
  "scales.http.bodies": counter(
    "bodies of streamed responses by how they ended: complete; cancelled, nobody read the rest; aborted, the call's time was over or its client closed; broken",
    "protocol",
    "end"
  ),
  "scales.http.request_body_bytes": counter("bytes of requests' bodies that were given to a connection", "protocol"),
  "scales.http.response_body_bytes": counter("bytes of responses' bodies that have come", "protocol"),
  "scales.http.protocol_errors": counter("times that a server did not keep to HTTP", "protocol"),
  "scales.http.alpn_refusals": counter("connections given up because the server did not choose HTTP/2", "protocol")
})

/** Every series of this package: what the table in the documentation is made of. */
import { counter, durations, gauge, histogram, summary, table as make } from "./Metrics.ts"

/** By name. */
export const table = make({
  "scales.call.requests": counter("calls begun", "service", "method"),
  "scales.call.success": counter("calls that succeeded", "service", "method"),
  "scales.call.failed": counter("calls that failed", "service", "method"),
  "scales.call.failures": counter("the same, by the tag of the error", "service", "method", "error"),
  "scales.call.timeouts": counter("calls whose deadline passed, by what they waited for", "waiting"),
  "scales.call.pending": gauge("calls that have not ended", "service", "method"),
  "scales.call.latency_ms": histogram("how long calls took, in milliseconds, since the beginning", "service", "method"),
  "scales.call.latency_quantiles_ms": summary(
    "how long calls took, in milliseconds, of the last minute, within 1 %",
    "service",
    "method"
  ),
  "scales.endpoint.attempts": counter("attempts begun at an endpoint", "endpoint"),
  "scales.endpoint.success": counter("attempts that succeeded", "endpoint"),
  "scales.endpoint.failed": counter("attempts that failed", "endpoint"),
  "scales.endpoint.failures": counter("the same, by the tag of the error", "endpoint", "error"),
  "scales.endpoint.ignored": counter(
    "attempts that say nothing of the endpoint: their caller gave up, a hedge superseded them, the client closed, they could not be sent anywhere",
    "endpoint"
  ),
  "scales.endpoint.load": gauge("attempts at an endpoint that have not ended", "endpoint"),
  "scales.endpoint.latency_ms": histogram(
    "how long attempts took that succeeded or failed, in milliseconds, since the beginning",
    "endpoint"
  ),
  "scales.endpoint.latency_quantiles_ms": summary(
    "how long attempts took that succeeded or failed, in milliseconds, of the last minute, within 1 %",
    "endpoint"
  ),
  "scales.endpoint.state": gauge("0: can take calls as it is, 1: works, but not well, 2: down", "endpoint"),
  "scales.balancer.size": gauge("endpoints in the set"),
  "scales.balancer.usable": gauge("endpoints that can take calls as they are"),
  "scales.balancer.busy": gauge("endpoints that work, but not well"),
  "scales.balancer.down": gauge("endpoints that are down"),
  "scales.balancer.draining": gauge("endpoints that have left the set and finish their calls"),
  "scales.balancer.load": gauge("attempts that have not ended"),
  "scales.balancer.adds": counter("endpoints that have joined"),
  "scales.balancer.removes": counter("endpoints that have left"),
  "scales.balancer.panics": counter("calls sent to an endpoint that was not usable, because none was"),
  "scales.balancer.waiting": gauge("calls that wait for the server set's first state, or for the first open endpoint"),
  "scales.aperture.size": gauge("endpoints in the aperture"),
  "scales.aperture.opening": gauge("endpoints that have come into the aperture and are not open yet"),
  "scales.aperture.outside": gauge("endpoints outside of the aperture"),
  "scales.aperture.load_average": gauge(
    "outstanding calls for each endpoint in the aperture, averaged over its window"
  ),
  "scales.aperture.widened": counter("endpoints taken into the aperture for the load"),
  "scales.aperture.narrowed": counter("endpoints let go of for want of load"),
  "scales.aperture.replaced": counter("endpoints in the aperture replaced because they were not usable, or left"),
  "scales.aperture.swapped": counter("endpoints exchanged so that the choices of many clients do not stay uneven"),
  "scales.aperture.expired": counter("endpoints outside of the aperture closed after they had no call for a while"),
  "scales.aperture.rebuilds": counter("times that a deterministic aperture laid the endpoints out anew"),
  "scales.aperture.coordinate": gauge("where a deterministic aperture begins on the ring of endpoints, 0 to 1"),
  "scales.discovery.state": gauge("what it said last: 0 nothing yet, 1 bound, 2 no such set, 3 cannot be found out"),
  "scales.discovery.endpoints": gauge("endpoints in the last state that said which there are"),
  "scales.discovery.updates": counter("states that it has told"),
  "scales.discovery.changes": counter("states with other endpoints, or other weights, than the one before"),
  "scales.discovery.failures": counter("states that said that the endpoints cannot be found out"),
  "scales.discovery.since_update_ms": gauge("how long ago it told its last state, in milliseconds"),
  "scales.stabilizer.held": gauge("endpoints that have left the server set, and are not let go of yet"),
  "scales.stabilizer.returned": counter("endpoints that were back before they were let go of"),
  "scales.stabilizer.released": counter("endpoints let go of, some time after they had left the server set"),
  "scales.dns.lookups": counter("rounds of questions to DNS"),
  "scales.dns.failures": counter("rounds that got no answer; that there is no such name is one"),
  "scales.dns.latency_ms": histogram("how long rounds with an answer took, in milliseconds"),
  "scales.pool.size": gauge("connections that are open or being made"),
  "scales.pool.in_use": gauge("connections that a call uses, where each carries one"),
  "scales.pool.idle": gauge("connections that no call uses, where each carries one"),
  "scales.pool.waiting": gauge("calls that wait for a connection to be made or to be free"),
  "scales.pool.waited": counter("calls that had to wait for a connection"),
  "scales.pool.wait_ms": histogram(
    "how long those waited that wait no more, in milliseconds, since the beginning, whether they were given one or not"
  ),
  "scales.pool.wait_quantiles_ms": summary("the same, of the last minute, within 1 %"),
  "scales.pool.refused": counter("calls that failed because too many were waiting"),
  "scales.pool.connects": counter("connections begun"),
  "scales.pool.connect_failures": counter("connections that could not be made"),
  "scales.pool.dead": counter("connections that were closed again before anybody could use them"),
  "scales.pool.closes": counter("connections that were open and have ended"),
  "scales.pool.connect_latency_ms": histogram(
    "how long it took to make the connections that were made, in milliseconds"
  ),
  "scales.resurrector.down": gauge("endpoints whose connection broke or could not be made"),
  "scales.resurrector.downs": counter("times that an endpoint went down"),
  "scales.resurrector.attempts": counter("attempts to connect to an endpoint that was down"),
  "scales.resurrector.revivals": counter("attempts to connect to an endpoint that was down, and succeeded"),
  "scales.resurrector.fast_failures": counter("attempts of calls that failed at once because their endpoint was down"),
  "scales.resurrector.down_ms": durations("how long endpoints were down that came back, in milliseconds"),
  "scales.accrual.dead": gauge("endpoints marked dead and not revived yet"),
  "scales.accrual.removals": counter("endpoints in use that were marked dead"),
  "scales.accrual.revivals": counter("endpoints marked dead that were found to answer again"),
  "scales.accrual.probes": counter("calls sent as probes"),
  "scales.accrual.removed_for_ms": durations("how long endpoints were marked dead that were revived, in milliseconds"),
  "scales.requeue.requeues": counter(
    "attempts sent again because the one before provably never ran: not_connected costs nothing, refused is paid for",
    "cause"
  ),
  "scales.requeue.budget_exhausted": counter("calls not sent again because the retry budget was empty"),
  "scales.requeue.request_limit": counter(
    "calls not sent again because they had used up their own share of the budget, or of connects"
  ),
  "scales.requeue.not_open": counter("calls not sent again because no endpoint was open"),
  "scales.requeue.not_retryable": counter("attempts that failed and may have run, or would fail the same way anywhere"),
  "scales.requeue.out_of_time": counter(
    "calls not sent again because nothing could have come of it before the deadline"
  ),
  "scales.retry.retries": counter("idempotent calls sent again after they may have been executed"),
  "scales.retry.budget_exhausted": counter("calls not retried because the retry budget was empty"),
  "scales.retry.exhausted": counter("calls that failed after all the retries that one call may have"),
  "scales.retry.out_of_time": counter("calls not retried because the retry would have begun after the deadline"),
  "scales.retry.not_retryable": counter("idempotent calls not retried because their failure would be the same again"),
  "scales.hedge.sent": counter("second attempts"),
  "scales.hedge.won": counter("second attempts whose reply came first"),
  "scales.hedge.budget_exhausted": counter("second attempts that a budget did not allow"),
  "scales.hedge.delay_ms": gauge("after how long a second attempt is sent, in milliseconds; 0: none is"),
  "scales.nack_admission.dropped": counter("attempts that were not sent because the servers refuse most"),
  "scales.nack_admission.accepted_ema": gauge("the share of the recent attempts that the servers took, 0 to 1"),
  "scales.pending_limit.in_use": gauge("attempts outstanding at all endpoints"),
  "scales.pending_limit.full": gauge("endpoints that are busy because of the limit"),
  "scales.pending_limit.rejected": counter("attempts that failed because their endpoint had as many as it may"),
  "scales.concurrency_limit.in_use": gauge("calls that run"),
  "scales.concurrency_limit.waiting": gauge("calls that wait for their turn"),
  "scales.concurrency_limit.waited": counter("calls that had to wait for their turn"),
  "scales.concurrency_limit.rejected": counter("calls that failed because there was no room to wait"),
  "scales.budget.balance": gauge("retries that the client may make now"),
  "scales.budget.withdrawals": counter("retries paid from the budget: of refused attempts, of calls, and hedges"),
  "scales.budget.exhausted": counter("retries that the budget did not allow"),
  "scales.stack.timers": gauge("deadlines of calls, and timers of stages, that wait"),
  "scales.transport.connections": gauge("connections that can carry calls"),
  "scales.transport.connecting": gauge("connections that are being made"),
  "scales.transport.connects": counter("connections made: connected, secured and agreed upon"),
  "scales.transport.connect_failures": counter("connections that could not be made, by how far they came", "phase"),
  "scales.transport.closes": counter("connections that have ended, by why", "why"),
  "scales.transport.connect_latency_ms": histogram(
    "how long resolving and connecting took, in milliseconds, when it succeeded"
  ),
  "scales.transport.connection_duration_ms": durations("how long connections lasted that have ended, in milliseconds"),
  "scales.transport.received_bytes": counter("bytes that came from servers; of a secured connection those within it"),
  "scales.transport.sent_bytes": counter("bytes given to sockets for servers; of a secured connection those within it"),
  "scales.transport.tls_handshakes": counter("TLS handshakes that succeeded"),
  "scales.transport.tls_handshake_latency_ms": histogram(
    "how long TLS handshakes took that succeeded, in milliseconds"
  ),
  "scales.server.requests": counter(
    "requests that a handler was begun for, and those of a method that is unknown",
    "service",
    "method"
  ),
  "scales.server.success": counter("requests that were answered with a result", "service", "method"),
  "scales.server.failed": counter("requests that were not", "service", "method"),
  "scales.server.failures": counter(
    "the same, by the tag of what the handler ended with",
    "service",
    "method",
    "error"
  ),
  "scales.server.pending": gauge("requests whose handler runs", "service", "method"),
  "scales.server.latency_ms": histogram(
    "how long handlers took, in milliseconds, since the beginning",
    "service",
    "method"
  ),
  "scales.server.latency_quantiles_ms": summary(
    "how long handlers took, in milliseconds, of the last minute, within 1 %",
    "service",
    "method"
  ),
  "scales.server.connections": gauge("connections of clients that are open"),
  "scales.server.connects": counter("connections of clients that were taken"),
  "scales.server.refused_connections": counter(
    "connections of clients that were not served, because there were too many"
  ),
  "scales.server.connection_duration_ms": durations(
    "how long connections of clients lasted that have ended, in milliseconds"
  ),
  "scales.server.received_bytes": counter("bytes that came from clients; of a secured connection those within it"),
  "scales.server.sent_bytes": counter("bytes given to sockets for clients; of a secured connection those within it"),
  "scales.server.tls_handshakes": counter("TLS handshakes that succeeded"),
  "scales.server.tls_failures": counter("connections that could not be secured"),
  "scales.server.tls_handshake_latency_ms": histogram("how long TLS handshakes took that succeeded, in milliseconds"),
  "scales.server.protocol_errors": counter("connections ended because of what their client sent"),
  "scales.server.expired": counter("requests that were not run because their deadline had passed when they came"),
  "scales.server.deaths": counter("requests whose handler died"),
  "scales.server.drains": counter("connections whose client was asked to send no more"),
  "scales.server.aborted": counter("requests that were interrupted because draining took too long")
})

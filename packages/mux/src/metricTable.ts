/** The series that mux clients and servers have beside those of every transport and server. */
import { Metrics } from "@scales-rpc/core"

const { counter, gauge, histogram, summary } = Metrics

/** By name. All of a client's sessions are summed, and those of a server. */
export const table = Metrics.table({
  "scales.mux.sessions": gauge("sessions whose handshake has ended"),
  "scales.mux.negotiating": gauge("sessions whose handshake has not ended"),
  "scales.mux.handshakes": counter("handshakes that ended well"),
  "scales.mux.handshake_latency_ms": histogram(
    "how long handshakes took that ended well, in milliseconds, with the TLS handshake when that is part of them"
  ),
  "scales.mux.draining": gauge("sessions whose server has asked to send no more"),
  "scales.mux.drains": counter("sessions whose server has asked to send no more"),
  "scales.mux.drained": counter("of these, sessions that have ended when every call was answered"),
  "scales.mux.leases": counter("leases that servers have given"),
  "scales.mux.leased": gauge("sessions whose server has said how long it may be counted on, while that lasts"),
  "scales.mux.lease_remaining_ms": gauge("how long the lease lasts that ends first, in milliseconds; 0: none"),
  "scales.mux.pings": counter("pings sent"),
  "scales.mux.ping_latency_ms": histogram("how long answers to pings took, in milliseconds, since the beginning"),
  "scales.mux.ping_latency_quantiles_ms": summary(
    "how long answers to pings took, in milliseconds, of the last minute, within 1 %"
  ),
  "scales.mux.ping_timeouts": counter("sessions that ended because a ping was not answered"),
  "scales.mux.dispatches": counter("requests given to sessions"),
  "scales.mux.outstanding": gauge("requests that wait for their reply"),
  "scales.mux.discards": counter("requests that servers were told to forget"),
  "scales.mux.tags_in_use": gauge("tags that are not free"),
  "scales.mux.tags_held": gauge("tags that are not free only because their discard has not been answered"),
  "scales.mux.nacks": counter("requests that servers have refused"),
  "scales.mux.unknown_tags": counter("answers on tags that nothing was asked with"),
  "scales.mux.protocol_errors": counter("sessions ended because the server did not keep to the protocol"),
  "scales.mux.downgrades": counter("sessions whose server knows no contexts"),
  "scales.mux.messages_sent": counter("messages handed to sockets, of every kind"),
  "scales.mux.messages_received": counter("messages that came, of every kind"),
  "scales.mux.fragments_sent": counter("frames handed to sockets that were not the last of their message"),
  "scales.mux.fragments_received": counter("frames that came and were not the last of their message"),
  "scales.mux.queued": gauge("messages that have not been handed to their socket"),
  "scales.mux.queued_bytes": gauge("their bytes"),
  "scales.mux_server.nacks": counter(
    "requests refused, by why: what was full, the drain, or the handler itself",
    "why"
  ),
  "scales.mux_server.discards": counter("requests that their client told to forget while they ran"),
  "scales.mux_server.orphaned_discards": counter("requests that their client told to forget and nobody knew"),
  "scales.mux_server.duplicate_tags": counter("sessions ended because their client used a tag twice"),
  "scales.mux_server.leases": counter("leases given to clients"),
  "scales.mux_server.pings": counter("pings sent to clients"),
  "scales.mux_server.outstanding": gauge("requests that have not been answered"),
  "scales.mux_server.messages_sent": counter("messages handed to sockets, of every kind"),
  "scales.mux_server.messages_received": counter("messages that came, of every kind"),
  "scales.mux_server.fragments_sent": counter("frames handed to sockets that were not the last of their message"),
  "scales.mux_server.fragments_received": counter("frames that came and were not the last of their message"),
  "scales.mux_server.queued": gauge("messages that have not been handed to their socket"),
  "scales.mux_server.queued_bytes": gauge("their bytes")
})

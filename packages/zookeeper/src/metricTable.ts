/** Every series of this package: what the table in the documentation is made of. */
import { Metrics } from "@scales-rpc/core"

const { counter, gauge, histogram, summary } = Metrics

/**
 * By name. Those of sessions and announcements say as `connect` which servers they are about, with a number when the program has another session
 * with the same; those of a server set (`set_`) too, unless it is a client's: then they say `client`.
 */
export const table = Metrics.table({
  "scales.zookeeper.session": gauge("1 for the state that the session is in, 0 for the others", "state"),
  "scales.zookeeper.sessions": counter("sessions that the servers gave"),
  "scales.zookeeper.reconnects": counter("connections made again within a session"),
  "scales.zookeeper.expirations": counter("sessions that the servers ended"),
  "scales.zookeeper.auth_failures": counter("times that credentials were refused"),
  "scales.zookeeper.connection_losses": counter("connections lost"),
  "scales.zookeeper.disconnected_ms": counter(
    "how long there was no connection, in milliseconds; the time until the first one included"
  ),
  "scales.zookeeper.requests": counter("operations asked for", "operation"),
  "scales.zookeeper.success": counter("operations that succeeded", "operation"),
  "scales.zookeeper.failed": counter("operations that failed", "operation"),
  "scales.zookeeper.failures": counter(
    "the same, by the tag of the error; Interrupted: nobody waited for it any more",
    "operation",
    "error"
  ),
  "scales.zookeeper.pending": gauge(
    "operations that have not ended; without a connection they wait for one",
    "operation"
  ),
  "scales.zookeeper.latency_ms": histogram(
    "how long operations took, in milliseconds, since the beginning; waiting for a connection included",
    "operation"
  ),
  "scales.zookeeper.latency_quantiles_ms": summary(
    "how long operations took, in milliseconds, of the last minute, within 1 %",
    "operation"
  ),
  "scales.zookeeper.watches": gauge("nodes that are watched; one whose data and children are counts twice"),
  "scales.zookeeper.watch_events": counter(
    "watches that have ended, by what happened to their node; Lost: the session's watches were lost",
    "event"
  ),
  "scales.zookeeper.set_state": gauge(
    "what the directory of a server set was found to be: 0 nothing yet, 1 there, 2 missing, 3 it cannot be read",
    "path"
  ),
  "scales.zookeeper.set_members": gauge("endpoints that the directory says are there", "path"),
  "scales.zookeeper.set_malformed": gauge("nodes of the directory whose data is not all as it should be", "path"),
  "scales.zookeeper.set_vectors": gauge("nodes of the directory that give weights", "path"),
  "scales.zookeeper.set_updates": counter("times that the directory was read, first or after a change", "path"),
  "scales.zookeeper.set_since_update_ms": gauge(
    "how long ago the directory was read last, in milliseconds; before the first time, how long that has been waited for",
    "path"
  ),
  "scales.announcement.announced": gauge(
    "1 while the set is known to show the endpoint, 0 otherwise",
    "path",
    "endpoint"
  ),
  "scales.announcement.reannouncements": counter("nodes made after the first", "path", "endpoint"),
  "scales.announcement.losses": counter("nodes that somebody else has deleted", "path", "endpoint"),
  "scales.announcement.failures": counter(
    "attempts that failed, by the tag of the error; each is tried again",
    "path",
    "endpoint",
    "error"
  )
})

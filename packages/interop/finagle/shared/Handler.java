import com.twitter.finagle.Dtab;
import com.twitter.finagle.Failure;
import com.twitter.finagle.FailureFlags;
import com.twitter.finagle.Path;
import com.twitter.finagle.context.BackupRequest;
import com.twitter.finagle.context.Contexts;
import com.twitter.finagle.context.Deadline;
import com.twitter.finagle.thrift.ClientId;
import com.twitter.finagle.tracing.Trace;
import com.twitter.finagle.tracing.TraceId;
import com.twitter.finagle.util.DefaultTimer;
import com.twitter.io.Buf;
import com.twitter.io.Bufs;
import com.twitter.util.Duration;
import com.twitter.util.Future;
import com.twitter.util.Promise;
import com.twitter.util.Return;
import com.twitter.util.Throw;
import com.twitter.util.TimerTask;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.LongAdder;
import scala.Tuple2;
import scala.collection.Iterable;
import scala.jdk.javaapi.CollectionConverters;
import scala.runtime.AbstractPartialFunction;
import scala.runtime.BoxedUnit;

/** What the services of both servers can do: fail as asked, answer late, tell what they saw of a call, count calls. */
final class Handler {
  private final Map<String, LongAdder> calls = new ConcurrentHashMap<>();
  private final Set<String> nackedOnce = ConcurrentHashMap.newKeySet();

  void count(String method) {
    calls.computeIfAbsent(method, (name) -> new LongAdder()).increment();
  }

  Map<String, Object> calls() {
    return new TreeMap<>(calls);
  }

  /** The failure that a text asks for, or null. */
  Throwable failure(String text) {
    if (text == null) return null;
    return switch (text) {
      case "nack" -> Failure.rejected("nack");
      case "nack-nonretryable" -> Failure.NonRetryableNackFailure();
      case "failure-nonretryable" -> Failure.apply("no", FailureFlags.NonRetryable());
      default -> text.startsWith("once-nack:") && nackedOnce.add(text) ? Failure.rejected("nack") : null;
    };
  }

  /** Answers after `millis`, or when interrupted, and then says so. */
  <A> Future<A> late(long millis, A answer, Session session) {
    long start = System.nanoTime();
    Promise<A> promise = new Promise<>();
    TimerTask timer = DefaultTimer.schedule(Duration.fromMilliseconds(millis).fromNow(), () -> {
      promise.updateIfEmpty(new Return<>(answer));
      return BoxedUnit.UNIT;
    });
    promise.setInterruptHandler(new AbstractPartialFunction<Throwable, BoxedUnit>() {
      @Override
      public boolean isDefinedAt(Throwable why) {
        return true;
      }

      @Override
      public BoxedUnit apply(Throwable why) {
        timer.cancel();
        long after = (System.nanoTime() - start) / 1_000_000;
        if (promise.updateIfEmpty(new Throw<>(why))) {
          Console.event("discarded", Json.object("session", session.id, "why", why.getMessage(),
            "exception", why.getClass().getName(), "afterMillis", after));
        }
        return BoxedUnit.UNIT;
      }
    });
    return promise;
  }

  /** All that this call carried. Numbers of 64 bits are strings: nanoseconds decimal, ids hexadecimal. */
  Map<String, Object> seen(Session session, Path destination, Iterable<Tuple2<Buf, Buf>> headers) {
    TraceId trace = Trace.id();
    Deadline deadline = Deadline.current().isEmpty() ? null : Deadline.current().get();
    Map<String, Object> contexts = new TreeMap<>();
    for (Tuple2<Buf, Buf> context : CollectionConverters.asJava(Contexts.broadcast().marshal())) {
      contexts.put(Bufs.asUtf8String(context._1()), Buf.slowHexString(context._2()));
    }
    Map<String, Object> texts = new TreeMap<>();
    for (Tuple2<Buf, Buf> header : CollectionConverters.asJava(headers)) {
      texts.put(Bufs.asUtf8String(header._1()), Bufs.asUtf8String(header._2()));
    }
    return Json.object(
      "session", session.id,
      "clientId", ClientId.current().isEmpty() ? null : ClientId.current().get().name(),
      "deadline", deadline == null ? null : Json.object(
        "timestamp", String.valueOf(deadline.timestamp().inNanoseconds()),
        "deadline", String.valueOf(deadline.deadline().inNanoseconds())
      ),
      "trace", Json.object(
        "traceId", trace.traceId().toString(),
        "spanId", trace.spanId().toString(),
        "parentId", trace.parentId().toString(),
        "traceIdHigh", trace.traceIdHigh().isEmpty() ? null : trace.traceIdHigh().get().toString(),
        "flags", String.format("%016x", trace.flags().toLong()),
        "sampled", trace.getSampled().isEmpty() ? null : trace.getSampled().get()
      ),
      "dtab", Dtab.local().show(),
      "destination", destination.show(),
      "backup", BackupRequest.wasInitiated(),
      "contexts", contexts,
      "headers", texts
    );
  }
}

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.management.ThreadMXBean;
import com.twitter.finagle.Resolver;
import com.twitter.finagle.Service;
import com.twitter.finagle.ThriftMux;
import com.twitter.finagle.stats.MetricsStatsReceiver;
import com.twitter.finagle.thrift.ThriftClientRequest;
import com.twitter.util.Duration;
import com.twitter.util.Return;
import com.twitter.util.Throw;
import com.twitter.util.Try;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.Collectors;
import org.apache.thrift.TException;
import org.apache.thrift.protocol.TMessage;
import org.apache.thrift.protocol.TMessageType;
import org.apache.thrift.protocol.TProtocol;
import scala.runtime.BoxedUnit;

/**
 * Finagle's ThriftMux client with its default stack as a client of the benchmark: what one call costs this process. It has the calls of a
 * closed loop follow each other on Finagle's own threads. Lines of JSON come in and go out, as those of the benchmark's other clients do.
 */
final class LoadClient {
  private static final long SETTLE_MILLIS = 40;
  /** What Linux counts CPU in, in microseconds. */
  private static final double TICK_MICROS = 10_000;
  /** The ticks are coarse: no window is shorter. */
  private static final long MIN_MILLIS = 600;
  private static final String SHORTEST = "hello world hello world";

  private final PrintStream out = new PrintStream(new FileOutputStream(FileDescriptor.out), false, StandardCharsets.UTF_8);
  private final ObjectMapper json = new ObjectMapper();
  private final AtomicInteger sequence = new AtomicInteger();
  private final List<Integer> ports;
  private final Service<ThriftClientRequest, byte[]> service;

  LoadClient(Words words) {
    ports = Arrays.stream(words.at(1).split(",")).map(Integer::valueOf).toList();
    String addresses = ports.stream().map((port) -> "127.0.0.1:" + port).collect(Collectors.joining(","));
    ThriftMux.Client client = ThriftMux.client().withRequestTimeout(Duration.fromSeconds(10));
    // Without them nothing is recorded: what records is not loaded by itself here.
    if (words.has("finagle-stats")) client = client.withStatsReceiver(new MetricsStatsReceiver());
    service = client.newService(Resolver.eval(addresses), "echo");
  }

  void serve() throws Exception {
    // The connection is made before the first window.
    new Closed(1, message(86), false).stop();
    say(Json.object("_tag", "Ready", "ports", ports));
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      JsonNode question = json.readTree(line);
      if (question.get("_tag").asText().equals("Close")) break;
      try {
        say(answer(question));
      } catch (Exception error) {
        say(Json.object("_tag", "Failed", "error", error.toString()));
      }
    }
    Runtime.getRuntime().halt(0);
  }

  private Map<String, Object> answer(JsonNode question) throws Exception {
    String kind = question.get("_tag").asText();
    Codec.Message message = message(question.get("payload").asInt());
    long millis = question.get("millis").asLong();
    switch (kind) {
      case "Measure":
        return Json.object("_tag", "Sampled", "sample", measure(message, question.get("inFlight").asInt(), millis));
      case "Memory":
        return Json.object("_tag", "Remembered", "memory", memory(message, question.get("inFlight").asInt(), millis));
      case "Closed": {
        Closed load = new Closed(question.get("inFlight").asInt(), message, true);
        Thread.sleep(SETTLE_MILLIS);
        load.latencies.clear();
        Thread.sleep(millis);
        Map<String, Object> timed = load.latencies.quantiles(millis);
        load.stop();
        return Json.object("_tag", "Timed", "timed", timed);
      }
      case "Open":
        return Json.object("_tag", "Timed", "timed", open(message, question.get("rate").asDouble(), millis));
      default:
        throw new IllegalArgumentException("no question called " + kind);
    }
  }

  private Map<String, Object> measure(Codec.Message message, int inFlight, long asked) throws Exception {
    Closed load = new Closed(inFlight, message, false);
    Thread.sleep(SETTLE_MILLIS);
    long[] before = ticks();
    long replies = load.replies.get();
    long started = System.nanoTime();
    Thread.sleep(Math.max(asked, MIN_MILLIS));
    long[] after = ticks();
    double calls = load.replies.get() - replies;
    double seconds = (System.nanoTime() - started) / 1e9;
    load.stop();
    if (calls == 0) throw new IllegalStateException("no reply within " + seconds + " s");
    return Json.object(
      "userMicros", (after[0] - before[0]) * TICK_MICROS / calls,
      "systemMicros", (after[1] - before[1]) * TICK_MICROS / calls,
      "callsPerSecond", calls / seconds
    );
  }

  private Map<String, Object> memory(Codec.Message message, int inFlight, long millis) throws Exception {
    Closed load = new Closed(inFlight, message, false);
    Thread.sleep(SETTLE_MILLIS);
    long before = allocated();
    long replies = load.replies.get();
    Thread.sleep(millis);
    double calls = load.replies.get() - replies;
    double bytes = (allocated() - before) / calls;
    load.stop();
    long pages = Long.parseLong(Files.readString(Path.of("/proc/self/statm")).split(" ")[1]);
    return Json.object("allocatedBytes", bytes, "residentBytes", pages * 4096);
  }

  /** Calls begin at a fixed rate from a thread that spins; each is timed from when it should have begun. */
  private Map<String, Object> open(Codec.Message message, double rate, long millis) throws Exception {
    Latencies latencies = new Latencies();
    int total = (int) Math.floor((SETTLE_MILLIS + millis) * rate / 1000) + 1;
    CountDownLatch ended = new CountDownLatch(total);
    AtomicReference<Throwable> failure = new AtomicReference<>();
    long started = System.nanoTime();
    for (int call = 0; call < total; call++) {
      long due = (long) (call * 1e9 / rate);
      while (System.nanoTime() - started < due) Thread.onSpinWait();
      service.apply(request(message)).respond((result) -> {
        try {
          check(result, message);
          if (due >= SETTLE_MILLIS * 1_000_000) latencies.add(System.nanoTime() - started - due);
        } catch (Exception error) {
          failure.set(error);
        }
        ended.countDown();
        return BoxedUnit.UNIT;
      });
    }
    ended.await();
    if (failure.get() != null) throw new IllegalStateException(failure.get());
    return latencies.quantiles((System.nanoTime() - started) / 1_000_000 - SETTLE_MILLIS);
  }

  private ThriftClientRequest request(Codec.Message message) {
    try {
      int number = sequence.incrementAndGet();
      byte[] bytes = Codec.message("passMessage", TMessageType.CALL, number, (to) -> Codec.writeMessage(to, 1, message));
      return new ThriftClientRequest(bytes, false);
    } catch (TException error) {
      throw new IllegalStateException(error);
    }
  }

  private static void check(Try<byte[]> result, Codec.Message sent) throws Exception {
    if (result instanceof Throw<byte[]> failed) throw new IllegalStateException(failed.e());
    TProtocol in = Codec.reading(((Return<byte[]>) result).r());
    TMessage header = in.readMessageBegin();
    Codec.Message[] reply = new Codec.Message[1];
    Codec.fields(in, (field) -> {
      if (field.id != 0) return false;
      reply[0] = Codec.readMessage(in);
      return true;
    });
    if (header.type != TMessageType.REPLY || !sent.equals(reply[0])) throw new IllegalStateException("wrong reply");
  }

  private static Codec.Message message(int payload) {
    int length = SHORTEST.length() + payload - 86;
    String text = "hello world ".repeat(length / 12 + 1).substring(0, length);
    return new Codec.Message(text, 12L, List.of(1, 2, 3, 4));
  }

  /** User and system time of this process so far. */
  private static long[] ticks() throws IOException {
    String stat = Files.readString(Path.of("/proc/self/stat"));
    // The name of the program, in parentheses, may hold anything.
    String[] fields = stat.substring(stat.lastIndexOf(')') + 2).split(" ");
    return new long[] {Long.parseLong(fields[11]), Long.parseLong(fields[12])};
  }

  /** Bytes that all threads have allocated so far. */
  private static long allocated() {
    ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
    return Arrays.stream(threads.getThreadAllocatedBytes(threads.getAllThreadIds())).filter((bytes) -> bytes > 0).sum();
  }

  private void say(Map<String, Object> what) {
    out.print(Json.write(what) + "\n");
    out.flush();
  }

  /** Keeps so many calls under way until it is stopped. */
  private final class Closed {
    final AtomicLong replies = new AtomicLong();
    final Latencies latencies = new Latencies();
    private final Codec.Message message;
    private final boolean timed;
    private final CountDownLatch loops;
    private final AtomicReference<Exception> failure = new AtomicReference<>();
    private volatile boolean running = true;

    Closed(int inFlight, Codec.Message message, boolean timed) {
      this.message = message;
      this.timed = timed;
      this.loops = new CountDownLatch(inFlight);
      for (int i = 0; i < inFlight; i++) call();
    }

    private void call() {
      long began = timed ? System.nanoTime() : 0;
      service.apply(request(message)).respond((result) -> {
        try {
          check(result, message);
          replies.incrementAndGet();
          if (timed) latencies.add(System.nanoTime() - began);
        } catch (Exception error) {
          failure.set(error);
          running = false;
        }
        if (running) call();
        else loops.countDown();
        return BoxedUnit.UNIT;
      });
    }

    void stop() throws Exception {
      running = false;
      loops.await();
      if (failure.get() != null) throw failure.get();
    }
  }

  /** Every time that was seen, in nanoseconds. */
  private static final class Latencies {
    private long[] nanos = new long[1 << 16];
    private int count = 0;

    synchronized void add(long time) {
      if (count == nanos.length) nanos = Arrays.copyOf(nanos, count * 2);
      nanos[count++] = time;
    }

    synchronized void clear() {
      count = 0;
    }

    synchronized Map<String, Object> quantiles(long millis) {
      long[] sorted = Arrays.copyOf(nanos, count);
      Arrays.sort(sorted);
      return Json.object("p50", at(sorted, 0.5), "p99", at(sorted, 0.99), "p999", at(sorted, 0.999), "calls", count,
        "callsPerSecond", count * 1000.0 / millis);
    }

    private static double at(long[] sorted, double share) {
      return sorted[(int) Math.ceil(share * sorted.length) - 1] / 1000.0;
    }
  }
}

import com.twitter.finagle.Dtab;
import com.twitter.finagle.FailureFlags;
import com.twitter.finagle.Name;
import com.twitter.finagle.Resolver;
import com.twitter.finagle.Service;
import com.twitter.finagle.context.Contexts;
import com.twitter.finagle.util.DefaultTimer;
import com.twitter.io.Buf;
import com.twitter.io.Bufs;
import com.twitter.util.Duration;
import com.twitter.util.Future;
import com.twitter.util.Promise;
import com.twitter.util.Return;
import com.twitter.util.Throw;
import com.twitter.util.Try;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Supplier;
import java.util.random.RandomGenerator;
import scala.Tuple2;
import scala.collection.immutable.Seq;
import scala.jdk.javaapi.CollectionConverters;
import scala.runtime.BoxedUnit;

/** The commands of a client: one call, a load of calls, and what Finagle thinks of its endpoints. */
final class ClientCommands<Q, A> implements Console.Commands {
  /** What differs between the protocols. */
  interface Peer<Q, A> {
    /** A new client; `options` holds its client id, timeout, window and TLS. */
    Service<Q, A> connect(Name name, Words options, Counters counters);

    /** A call ready to be sent any number of times. */
    Call<Q, A> call(Words words);

    /** Sends within what `options` say that a request of this protocol does not hold itself. */
    Future<A> within(Words options, Supplier<Future<A>> send);

    /** Fields that an exception of this protocol adds to an answer. */
    Map<String, Object> details(Throwable error);
  }

  /** `request` is asked for anew each time the call is sent; `result` may throw what the reply declares. */
  interface Call<Q, A> {
    Q request();

    Object result(A reply) throws Exception;

    /** Whether a result is the one that this call asks for, as far as its method says. */
    default boolean right(Object result) {
      return true;
    }
  }

  // Finagle's own timer ticks every 10 ms, by when most calls are answered.
  private static final int DISCARD_MICROS = 3000;
  private static final ScheduledExecutorService DISCARDS = Executors.newSingleThreadScheduledExecutor((run) -> {
    Thread thread = new Thread(run, "discards");
    thread.setDaemon(true);
    return thread;
  });

  private final Peer<Q, A> peer;
  private final Name name;
  private final Words defaults;
  private final Counters counters;
  private final Map<List<String>, Service<Q, A>> services = new HashMap<>();
  private final Set<Load> loads = ConcurrentHashMap.newKeySet();

  ClientCommands(Peer<Q, A> peer, String endpoints, Words defaults) {
    this.peer = peer;
    this.name = Resolver.eval(endpoints);
    this.defaults = defaults;
    this.counters = Counters.asked(defaults);
  }

  @Override
  public Future<Map<String, Object>> run(String command, Words words) {
    switch (command) {
      case "call": {
        Words options = words.over(defaults);
        Call<Q, A> call = peer.call(options);
        long start = System.nanoTime();
        return send(service(options), call, options).transform((result) -> {
          Map<String, Object> answer = describe(result);
          answer.put("millis", (System.nanoTime() - start) / 1_000_000);
          return Future.value(answer);
        });
      }
      case "load": {
        Words options = words.over(defaults);
        return load(service(options), options);
      }
      case "stop": {
        List<Load> stopped = List.copyOf(loads);
        stopped.forEach((load) -> load.stopped = true);
        return Future.value(Json.object("loads", stopped.size()));
      }
      case "status": {
        List<Map<String, Object>> all = new ArrayList<>();
        services.forEach((key, service) -> all.add(Json.object("clientId", key.get(0), "timeout", key.get(1), "window",
          key.get(2), "status", service.status().toString())));
        return Future.value(Json.object("clients", all));
      }
      case "stats":
        return Future.value(Json.object("finagle", Counters.read(counters)));
      case "close": {
        List<Future<BoxedUnit>> closed = new ArrayList<>();
        services.values().forEach((service) -> closed.add(service.close()));
        services.clear();
        return Future.collect(closed).map((all) -> Json.object("closed", all.size()));
      }
      default:
        throw new IllegalArgumentException("no command " + command);
    }
  }

  /** One client, so one connection an endpoint, for each combination of client id, timeout, window and TLS. */
  private Service<Q, A> service(Words options) {
    List<String> key = Arrays.asList(options.option("client-id", null), options.option("timeout", null),
      options.option("window", null), options.option("tls", null), options.option("certificate", null),
      options.option("ca", null), options.option("hostname", null));
    return services.computeIfAbsent(key, (fresh) -> peer.connect(name, options, counters));
  }

  /** The time of `--timeout`, in milliseconds, or none. */
  static Duration timeout(Words options) {
    String millis = options.option("timeout", null);
    return millis == null ? Duration.Top() : Duration.fromMilliseconds(Long.parseLong(millis));
  }

  /** `key=value` options as pairs of bytes, the values in UTF-8 or hexadecimal. */
  static Seq<Tuple2<Buf, Buf>> pairs(List<String> options, boolean hex) {
    List<Tuple2<Buf, Buf>> pairs = new ArrayList<>();
    for (String option : options) {
      int at = option.indexOf('=');
      String text = option.substring(at + 1);
      Buf value = hex ? Bufs.ownedBuf(HexFormat.of().parseHex(text)) : Bufs.utf8Buf(text);
      pairs.add(new Tuple2<>(Bufs.utf8Buf(option.substring(0, at)), value));
    }
    return CollectionConverters.asScala(pairs).toSeq();
  }

  private Future<Object> send(Service<Q, A> service, Call<Q, A> call, Words options) {
    Supplier<Future<A>> plain = () -> peer.within(options, () -> service.apply(call.request()));
    Supplier<Future<A>> named = options.has("dtab") ? () -> Dtab.unwind(() -> {
      Dtab.setLocal(Dtab.read(options.option("dtab", "")));
      return plain.get();
    }) : plain;
    Future<A> reply = options.has("context")
      ? Contexts.broadcast().letUnmarshal(pairs(options.all("context"), true), named::get) : named.get();
    if (options.has("cancel")) {
      DefaultTimer.schedule(Duration.fromMilliseconds(Long.parseLong(options.option("cancel", "0"))).fromNow(), () -> {
        reply.raise(new Cancelled());
        return BoxedUnit.UNIT;
      });
    }
    return reply.transform((result) -> {
      if (result instanceof Throw<A> failed) return Future.exception(failed.e());
      try {
        return Future.value(call.result(((Return<A>) result).r()));
      } catch (Exception declared) {
        return Future.exception(declared);
      }
    });
  }

  /** Why a call is given up here. */
  private static final class Cancelled extends InterruptedException {
    private static final long serialVersionUID = 1;

    Cancelled() {
      super("cancelled by the caller");
    }

    static boolean isCauseOf(Throwable error) {
      for (Throwable at = error; at != null; at = at.getCause()) if (at instanceof Cancelled) return true;
      return false;
    }
  }

  private Future<Map<String, Object>> load(Service<Q, A> service, Words options) {
    int concurrency = Integer.parseInt(options.option("concurrency", "1"));
    Load load = new Load(service, options, concurrency);
    loads.add(load);
    for (int i = 0; i < concurrency; i++) load.run();
    return load.done.ensure(() -> {
      loads.remove(load);
      return BoxedUnit.UNIT;
    });
  }

  /** Sends the next call when one is answered, until there are no more to send or it is stopped. */
  private final class Load {
    final Promise<Map<String, Object>> done = new Promise<>();
    volatile boolean stopped;
    private final Service<Q, A> service;
    private final Words options;
    private final int discards;
    private final long seed;
    private final long start = System.nanoTime();
    private final long[] nanos;
    private final AtomicInteger callers;
    private final AtomicInteger sent = new AtomicInteger();
    private final AtomicInteger answered = new AtomicInteger();
    private final AtomicInteger wrong = new AtomicInteger();
    private final AtomicInteger discarded = new AtomicInteger();
    private final Map<String, Integer> errors = new TreeMap<>();

    Load(Service<Q, A> service, Words options, int concurrency) {
      this.service = service;
      this.options = options;
      discards = Integer.parseInt(options.option("discards", "0"));
      seed = Long.parseLong(options.option("seed", "1"));
      nanos = new long[Integer.parseInt(options.option("requests", "1000"))];
      callers = new AtomicInteger(concurrency);
    }

    void run() {
      int index = sent.getAndIncrement();
      if (stopped || index >= nanos.length) {
        if (callers.decrementAndGet() == 0) finish();
        return;
      }
      // Of its own for each call, so that a seed means the same calls whatever order they are sent in.
      RandomGenerator random = new SplittableRandom(seed * nanos.length + index);
      long began = System.nanoTime();
      Call<Q, A> call = peer.call(options.numbered(index, random));
      Future<Boolean> reply = send(service, call, options).map((result) -> call.right(result));
      if (random.nextInt(100) < discards) giveUp(reply, random.nextInt(DISCARD_MICROS));
      reply.respond((result) -> {
        nanos[answered.getAndIncrement()] = System.nanoTime() - began;
        if (result instanceof Return<Boolean> done && !done.r()) wrong.incrementAndGet();
        if (result instanceof Throw<Boolean> failed) {
          if (Cancelled.isCauseOf(failed.e())) discarded.incrementAndGet();
          else {
            synchronized (errors) {
              errors.merge(kind(failed.e()), 1, Integer::sum);
            }
          }
        }
        run();
        return BoxedUnit.UNIT;
      });
    }

    /** At once when `micros` is in the first tenth, so that some never leave. */
    private void giveUp(Future<Boolean> reply, int micros) {
      if (micros < DISCARD_MICROS / 10) reply.raise(new Cancelled());
      else DISCARDS.schedule(() -> reply.raise(new Cancelled()), micros, TimeUnit.MICROSECONDS);
    }

    private void finish() {
      double seconds = (System.nanoTime() - start) / 1e9;
      int ended = answered.get();
      Arrays.sort(nanos, 0, ended);
      int failed = errors.values().stream().mapToInt(Integer::intValue).sum();
      done.setValue(Json.object("requests", ended, "succeeded", ended - failed - discarded.get(), "discarded",
        discarded.get(), "failed", failed, "wrong", wrong.get(), "errors", errors, "millis", Math.round(seconds * 1000),
        "perSecond", Math.round(ended / seconds), "p50Micros", at(0.5, ended), "p99Micros", at(0.99, ended)));
    }

    private long at(double quantile, int ended) {
      return ended == 0 ? 0 : nanos[(int) (quantile * (ended - 1))] / 1000;
    }
  }

  /** Class and message, without the addresses and trace id that Finagle adds and that make each error another. */
  private static String kind(Throwable error) {
    return error.getClass().getName() + ": " + String.valueOf(error.getMessage()).split(" Remote Info: ")[0];
  }

  private Map<String, Object> describe(Try<Object> result) {
    if (result instanceof Return<Object> done) return Json.object("ok", true, "result", done.r());
    Throwable error = ((Throw<?>) result).e();
    Map<String, Object> answer = Json.object("ok", false, "exception", error.getClass().getName(), "message",
      error.getMessage());
    answer.putAll(peer.details(error));
    if (error instanceof FailureFlags<?> flagged) {
      answer.put("flags", new TreeSet<>(CollectionConverters.asJava(FailureFlags.flagsOf(flagged.flags()))));
    }
    if (error.getCause() != null) answer.put("cause", error.getCause().toString());
    return answer;
  }
}

import com.twitter.finagle.ListeningServer;
import com.twitter.finagle.Mux$param$MaxFrameSize;
import com.twitter.finagle.Mux$param$MaxFrameSize$;
import com.twitter.finagle.Stack;
import com.twitter.finagle.util.DefaultTimer;
import com.twitter.util.Duration;
import com.twitter.util.Future;
import com.twitter.util.StorageUnit;
import com.twitter.util.Time;
import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import scala.runtime.BoxedUnit;

/** The commands of a server, whatever it serves. */
final class ServerCommands implements Console.Commands {
  private final Sessions sessions;
  private final Handler handler;
  private final Counters counters;
  private final Function<InetSocketAddress, ListeningServer> listen;
  private ListeningServer server;
  private final int port;

  ServerCommands(Words options, Sessions sessions, Handler handler, Counters counters,
    Function<InetSocketAddress, ListeningServer> listen) {
    this.sessions = sessions;
    this.handler = handler;
    this.counters = counters;
    this.listen = listen;
    this.server = listen.apply(address(Integer.parseInt(options.option("port", "0"))));
    this.port = ((InetSocketAddress) server.boundAddress()).getPort();
  }

  /** The client or server with the window of `--window`, in bytes, and the TLS of `--tls`, when they are given. */
  static <T extends Stack.Parameterized<?>> T configured(T stack, Words options) {
    T configured = stack;
    if (options.has("window")) {
      StorageUnit window = StorageUnit.fromBytes(Long.parseLong(options.option("window", "")));
      configured = with(configured, new Mux$param$MaxFrameSize(window), Mux$param$MaxFrameSize$.MODULE$.param());
    }
    return Tls.configured(configured, options);
  }

  @SuppressWarnings("unchecked")
  static <T extends Stack.Parameterized<?>, P> T with(T stack, P value, Stack.Param<P> param) {
    return ((Stack.Parameterized<T>) stack).configured(value, param);
  }

  int port() {
    return port;
  }

  @Override
  public Future<Map<String, Object>> run(String name, Words words) {
    return switch (name) {
      case "port" -> Future.value(Json.object("port", port));
      case "drain" -> timed((start) -> server.close(in(words)).map((closed) -> Json.object("millis", since(start))));
      case "listen" -> {
        server = listen.apply(address(port));
        yield Future.value(Json.object("port", port));
      }
      case "drain-sessions" -> timed((start) -> drainSessions(in(words), start));
      case "lease" -> lease(Long.parseLong(words.at(0)));
      case "ping" -> ping(Long.parseLong(words.at(0, "2000")));
      case "events" -> Future.value(Json.object("events", Console.events()));
      case "clear" -> {
        Console.clearEvents();
        yield Future.value(Json.object());
      }
      case "stats" -> Future.value(Json.object("calls", handler.calls(), "sessions",
        sessions.open().stream().map(Session::describe).toList(), "sessionsEver", sessions.total(), "finagle",
        Counters.read(counters)));
      default -> throw new IllegalArgumentException("no command " + name);
    };
  }

  private Future<Map<String, Object>> drainSessions(Time deadline, long start) {
    List<Future<BoxedUnit>> closed = new ArrayList<>();
    for (Session session : sessions.open()) {
      if (session.connection != null) closed.add(session.connection.close(deadline));
    }
    return Future.collect(closed).map((all) -> Json.object("sessions", all.size(), "millis", since(start)));
  }

  private Future<Map<String, Object>> lease(long millis) {
    int leased = 0;
    for (Session session : sessions.started()) {
      session.lessee.issue(Duration.fromMilliseconds(millis));
      leased++;
    }
    return Future.value(Json.object("sessions", leased));
  }

  private Future<Map<String, Object>> ping(long millis) {
    List<Future<Boolean>> answers = new ArrayList<>();
    for (Session session : sessions.started()) {
      Future<BoxedUnit> ping = session.ping();
      answers.add(ping.within(Duration.fromMilliseconds(millis), DefaultTimer.getInstance())
        .transform((result) -> Future.value(result.isReturn())));
    }
    return Future.collect(answers)
      .map((all) -> Json.object("sessions", all.size(), "answered", all.stream().filter((yes) -> yes).count()));
  }

  private static Future<Map<String, Object>> timed(Function<Long, Future<Map<String, Object>>> work) {
    return work.apply(System.nanoTime());
  }

  private static long since(long start) {
    return (System.nanoTime() - start) / 1_000_000;
  }

  private static Time in(Words words) {
    return Time.now().plus(Duration.fromMilliseconds(Long.parseLong(words.at(0))));
  }

  private static InetSocketAddress address(int port) {
    return new InetSocketAddress("127.0.0.1", port);
  }
}

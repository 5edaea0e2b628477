import com.twitter.finagle.ListeningServer;
import com.twitter.finagle.Mux$param$MaxFrameSize;
import com.twitter.finagle.Mux$param$MaxFrameSize$;
import com.twitter.finagle.Stack;
import com.twitter.finagle.param.OppTls;
import com.twitter.finagle.ssl.ApplicationProtocols;
import com.twitter.finagle.ssl.CipherSuites;
import com.twitter.finagle.ssl.ClientAuth;
import com.twitter.finagle.ssl.KeyCredentials;
import com.twitter.finagle.ssl.OpportunisticTls;
import com.twitter.finagle.ssl.Protocols;
import com.twitter.finagle.ssl.TrustCredentials;
import com.twitter.finagle.ssl.client.SslClientConfiguration;
import com.twitter.finagle.ssl.server.SslServerConfiguration;
import com.twitter.finagle.transport.Transport;
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
import scala.Option;
import scala.runtime.BoxedUnit;

/** The commands of a server, whatever it serves. */
final class ServerCommands implements Console.Commands {
  private static final SslServerConfiguration SERVER_WITHOUT_KEYS = new SslServerConfiguration(
    KeyCredentials.Unspecified$.MODULE$, ClientAuth.Unspecified$.MODULE$, TrustCredentials.Unspecified$.MODULE$,
    CipherSuites.Unspecified$.MODULE$, Protocols.Unspecified$.MODULE$, ApplicationProtocols.Unspecified$.MODULE$,
    false);
  private static final SslClientConfiguration CLIENT_WITHOUT_KEYS = new SslClientConfiguration(Option.empty(),
    Option.empty(), KeyCredentials.Unspecified$.MODULE$, TrustCredentials.Unspecified$.MODULE$,
    CipherSuites.Unspecified$.MODULE$, Protocols.Unspecified$.MODULE$, ApplicationProtocols.Unspecified$.MODULE$,
    false);

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

  /** The client or server with the window of `--window`, in bytes, and the level of `--tls`, when they are given. */
  static <T extends Stack.Parameterized<?>> T configured(T stack, Words options) {
    T configured = stack;
    if (options.has("window")) {
      StorageUnit window = StorageUnit.fromBytes(Long.parseLong(options.option("window", "")));
      configured = with(configured, new Mux$param$MaxFrameSize(window), Mux$param$MaxFrameSize$.MODULE$.param());
    }
    if (options.has("tls")) {
      // A level is told to the peer whether or not there are keys, and without keys no TLS could start.
      OpportunisticTls.Level level = switch (options.option("tls", "")) {
        case "desired" -> OpportunisticTls.Desired$.MODULE$;
        case "required" -> OpportunisticTls.Required$.MODULE$;
        default -> throw new IllegalArgumentException("--tls desired or required");
      };
      configured = with(configured, OppTls.apply(Option.apply(level)), OppTls.param());
      configured = with(configured, new Transport.ServerSsl(Option.apply(SERVER_WITHOUT_KEYS)),
        Transport.ServerSsl$.MODULE$.param());
      configured = with(configured, new Transport.ClientSsl(Option.apply(CLIENT_WITHOUT_KEYS)),
        Transport.ClientSsl$.MODULE$.param());
    }
    return configured;
  }

  @SuppressWarnings("unchecked")
  private static <T extends Stack.Parameterized<?>, P> T with(T stack, P value, Stack.Param<P> param) {
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

import com.twitter.finagle.Http;
import com.twitter.finagle.Mux;
import com.twitter.finagle.Resolver;
import com.twitter.finagle.Service;
import com.twitter.finagle.ServiceFactory;
import com.twitter.finagle.mux.Request;
import com.twitter.finagle.mux.Response;
import java.util.Arrays;

/** A Mux server or client of Finagle 24.2.0, or its HTTP server, told over stdin what to do. */
public final class Main {
  private Main() {}

  public static void main(String[] arguments) throws Exception {
    Console.quiet();
    Words words = new Words(Arrays.asList(arguments));
    switch (words.at(0)) {
      case "server" -> server(words);
      case "client" ->
        Console.serve(Json.object("mode", "client"), new ClientCommands<>(new BodyClient(), words.at(1), words));
      case "http-server" -> httpServer(words);
      default -> throw new IllegalArgumentException("[http-]server or client, not " + words.at(0));
    }
  }

  private static void server(Words options) throws Exception {
    Sessions sessions = new Sessions();
    Handler handler = new Handler();
    Counters counters = Counters.asked(options);
    Mux.Server plain = counters == null ? Mux.server() : (Mux.Server) Mux.server().withStatsReceiver(counters);
    Mux.Server server = sessions.watching(ServerCommands.configured(plain, options));
    Service<Request, Response> next = options.has("forward")
      ? Mux.client().newService(Resolver.eval(options.option("forward", "")), "next") : null;
    ServiceFactory<Request, Response> services =
      sessions.factory(options.has("reject-sessions"), (session) -> new BodyServer(handler, session, next));
    ServerCommands commands =
      new ServerCommands(options, sessions, handler, counters, (address) -> server.serve(address, services));
    Console.serve(Json.object("mode", "server", "port", commands.port()), commands);
  }

  private static void httpServer(Words options) throws Exception {
    Sessions sessions = new Sessions();
    Handler handler = new Handler();
    Counters counters = Counters.asked(options);
    Http.Server plain = counters == null ? Http.server() : Http.server().withStatsReceiver(counters);
    Http.Server server = ServerCommands.configured(plain, options);
    ServiceFactory<com.twitter.finagle.http.Request, com.twitter.finagle.http.Response> services =
      sessions.factory(options.has("reject-sessions"), (session) -> new HttpServer(handler, session));
    ServerCommands commands =
      new ServerCommands(options, sessions, handler, counters, (address) -> server.serve(address, services));
    Console.serve(Json.object("mode", "server", "port", commands.port()), commands);
  }
}

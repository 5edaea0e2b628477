import com.twitter.finagle.Resolver;
import com.twitter.finagle.Service;
import com.twitter.finagle.ServiceFactory;
import com.twitter.finagle.Thrift;
import com.twitter.finagle.ThriftMux;
import com.twitter.finagle.thrift.ThriftClientRequest;
import java.util.Arrays;

/** A server or client of Finagle 22.7.0, of ThriftMux or of plain Thrift, told over stdin what to do. */
public final class Main {
  private Main() {}

  public static void main(String[] arguments) throws Exception {
    Console.quiet();
    Words words = new Words(Arrays.asList(arguments));
    switch (words.at(0)) {
      case "server" -> server(words);
      case "client" ->
        Console.serve(Json.object("mode", "client"), new ClientCommands<>(new EchoClient(true), words.at(1), words));
      case "load-client" -> new LoadClient(words).serve();
      case "server-sets" -> Console.serve(Json.object("mode", "server-sets"), new ServerSets());
      case "thrift-server" -> thriftServer(words);
      case "thrift-client" ->
        Console.serve(Json.object("mode", "client"), new ClientCommands<>(new EchoClient(false), words.at(1), words));
      default -> throw new IllegalArgumentException("[thrift-]server or [thrift-]client, not " + words.at(0));
    }
  }

  private static void server(Words options) throws Exception {
    Sessions sessions = new Sessions();
    Handler handler = new Handler();
    Counters counters = Counters.asked(options);
    ThriftMux.Server plain = counters == null ? ThriftMux.server() : ThriftMux.server().withStatsReceiver(counters);
    ThriftMux.Server configured = ServerCommands.configured(plain, options);
    ThriftMux.Server server = sessions.watching(configured.filtered(new EchoServer.Envelope()));
    Service<ThriftClientRequest, byte[]> next = options.has("forward")
      ? ThriftMux.client().newService(Resolver.eval(options.option("forward", "")), "next") : null;
    ServiceFactory<byte[], byte[]> services =
      sessions.factory(options.has("reject-sessions"), (session) -> new EchoServer(handler, session, next));
    ServerCommands commands =
      new ServerCommands(options, sessions, handler, counters, (address) -> server.serve(address, services));
    Console.serve(Json.object("mode", "server", "port", commands.port()), commands);
  }

  private static void thriftServer(Words options) throws Exception {
    Sessions sessions = new Sessions();
    Handler handler = new Handler();
    Counters counters = Counters.asked(options);
    Thrift.Server plain = counters == null ? Thrift.server() : Thrift.server().withStatsReceiver(counters);
    Thrift.Server server = ServerCommands.configured(plain, options);
    ServiceFactory<byte[], byte[]> services =
      sessions.factory(options.has("reject-sessions"), (session) -> new EchoServer(handler, session, null));
    ServerCommands commands =
      new ServerCommands(options, sessions, handler, counters, (address) -> server.serve(address, services));
    Console.serve(Json.object("mode", "server", "port", commands.port()), commands);
  }
}

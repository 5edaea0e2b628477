import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.List;
import org.apache.thrift.TMultiplexedProcessor;
import org.apache.thrift.TProcessor;
import org.apache.thrift.server.TServer;
import org.apache.thrift.server.TThreadPoolServer;
import org.apache.thrift.server.TThreadedSelectorServer;
import org.apache.thrift.transport.TNonblockingServerSocket;
import org.apache.thrift.transport.TServerSocket;
import org.apache.thrift.transport.TTransportException;
import thrifttest.SecondService;
import thrifttest.ThriftTest;

/** A server for each way to call them, each on a port of its own: framed ones on a selector, buffered ones with a thread a connection. */
final class Servers {
  private static final InetSocketAddress ANY_PORT = new InetSocketAddress("127.0.0.1", 0);

  private Servers() {}

  static void run() throws IOException, TTransportException {
    List<Object> ports = new ArrayList<>();
    for (String protocol : Wire.PROTOCOLS) {
      for (String transport : Wire.TRANSPORTS) {
        for (String sharing : Wire.SHARINGS) {
          String way = protocol + " " + transport + " " + sharing;
          TProcessor processor = processor(way, sharing);
          ports.add(way);
          ports.add(transport.equals("framed") ? framed(protocol, processor) : buffered(protocol, processor));
        }
      }
    }
    Console.say("READY", "ports", Console.object(ports.toArray()));
    if (Console.next() != null) throw new IllegalArgumentException("a server takes no commands");
    System.exit(0);
  }

  private static TProcessor processor(String way, String sharing) {
    TProcessor plain = new ThriftTest.Processor<>(new Handler(way));
    if (sharing.equals("plain")) return plain;
    TMultiplexedProcessor both = new TMultiplexedProcessor();
    both.registerProcessor("ThriftTest", plain);
    both.registerProcessor("SecondService", new SecondService.Processor<>((thing) -> "testString(\"" + thing + "\")"));
    return both;
  }

  private static int framed(String protocol, TProcessor processor) throws TTransportException {
    TNonblockingServerSocket socket = new TNonblockingServerSocket(ANY_PORT);
    start(
      new TThreadedSelectorServer(
        new TThreadedSelectorServer.Args(socket).processor(processor).protocolFactory(Wire.protocol(protocol))
      )
    );
    return socket.getPort();
  }

  private static int buffered(String protocol, TProcessor processor) throws TTransportException {
    TServerSocket socket = new TServerSocket(ANY_PORT);
    start(
      new TThreadPoolServer(
        new TThreadPoolServer.Args(socket).processor(processor).protocolFactory(Wire.protocol(protocol))
      )
    );
    return socket.getServerSocket().getLocalPort();
  }

  private static void start(TServer server) {
    Thread thread = new Thread(server::serve);
    thread.setDaemon(true);
    thread.start();
  }
}

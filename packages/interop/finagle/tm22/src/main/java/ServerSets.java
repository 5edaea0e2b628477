import com.twitter.finagle.Addr;
import com.twitter.finagle.Address;
import com.twitter.finagle.Announcement;
import com.twitter.finagle.Announcer$;
import com.twitter.finagle.Name;
import com.twitter.finagle.Resolver;
import com.twitter.finagle.addr.WeightedAddress;
import com.twitter.finagle.partitioning.zk.ZkMetadata;
import com.twitter.util.Closable;
import com.twitter.util.Future;
import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import scala.jdk.javaapi.CollectionConverters;
import scala.runtime.BoxedUnit;

/** Finagle's announcer and its resolvers of ZooKeeper's server sets, by themselves. */
final class ServerSets implements Console.Commands {
  private final Map<String, Announcement> announcements = new HashMap<>();
  private final Map<String, Closable> watches = new HashMap<>();

  @Override
  public Future<Map<String, Object>> run(String command, Words words) {
    String name = words.at(0);
    return switch (command) {
      case "announce" -> {
        long start = System.nanoTime();
        yield Announcer$.MODULE$.announce(address(words.at(1)), name).map((announcement) -> {
          synchronized (announcements) {
            announcements.put(name, announcement);
          }
          return Json.object("millis", (System.nanoTime() - start) / 1_000_000);
        });
      }
      case "leave" -> {
        synchronized (announcements) {
          yield announcements.remove(name).unannounce().map((left) -> Json.object());
        }
      }
      case "watch" -> {
        Name.Bound bound = (Name.Bound) Resolver.eval(name);
        watches.put(name, bound.addr().changes().respond((addr) -> {
          Console.event("addr", shown(name, addr));
          return BoxedUnit.UNIT;
        }));
        yield Future.value(Json.object());
      }
      case "forget" -> watches.remove(name).close().map((closed) -> Json.object());
      default -> throw new IllegalArgumentException("no command " + command);
    };
  }

  private static InetSocketAddress address(String hostAndPort) {
    int colon = hostAndPort.lastIndexOf(':');
    return new InetSocketAddress(hostAndPort.substring(0, colon), Integer.parseInt(hostAndPort.substring(colon + 1)));
  }

  private static Map<String, Object> shown(String name, Addr addr) {
    Map<String, Object> shown = Json.object("name", name, "state", addr.getClass().getSimpleName().replace("$", ""));
    if (addr instanceof Addr.Bound bound) {
      List<Map<String, Object>> endpoints = new ArrayList<>();
      CollectionConverters.asJava(bound.addrs()).forEach((address) -> endpoints.add(endpoint(address)));
      shown.put("endpoints", endpoints);
    }
    if (addr instanceof Addr.Failed failed) shown.put("cause", failed.cause().toString());
    return shown;
  }

  private static Map<String, Object> endpoint(Address address) {
    var weighted = WeightedAddress.extract(address);
    Address.Inet inet = (Address.Inet) weighted._1();
    String key = inet.addr().getHostString() + ":" + inet.addr().getPort();
    Map<String, Object> endpoint = Json.object("address", key, "weight", weighted._2());
    ZkMetadata.fromAddrMetadata(inet.metadata()).foreach((said) -> {
      if (said.shardId().isDefined()) endpoint.put("shard", said.shardId().get());
      endpoint.put("metadata", new TreeMap<>(CollectionConverters.asJava(said.metadata())));
      return BoxedUnit.UNIT;
    });
    return endpoint;
  }
}

import java.util.List;
import org.apache.thrift.protocol.TBinaryProtocol;
import org.apache.thrift.protocol.TCompactProtocol;
import org.apache.thrift.protocol.TJSONProtocol;
import org.apache.thrift.protocol.TProtocolFactory;

/** The ways of the cross-test to put a call on a connection, by name, as Java's library does each. */
final class Wire {
  static final List<String> PROTOCOLS = List.of("binary", "compact", "json");
  static final List<String> TRANSPORTS = List.of("framed", "buffered");
  static final List<String> SHARINGS = List.of("plain", "multiplexed");

  private Wire() {}

  static TProtocolFactory protocol(String name) {
    return switch (name) {
      case "binary" -> new TBinaryProtocol.Factory();
      case "compact" -> new TCompactProtocol.Factory();
      case "json" -> new TJSONProtocol.Factory();
      default -> throw new IllegalArgumentException("no protocol " + name);
    };
  }
}

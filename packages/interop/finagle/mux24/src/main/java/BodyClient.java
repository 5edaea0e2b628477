import com.twitter.finagle.Mux;
import com.twitter.finagle.Name;
import com.twitter.finagle.Path;
import com.twitter.finagle.Service;
import com.twitter.finagle.mux.Request;
import com.twitter.finagle.mux.Requests;
import com.twitter.finagle.mux.Response;
import com.twitter.finagle.thrift.ClientId;
import com.twitter.io.Buf;
import com.twitter.io.Bufs;
import com.twitter.util.Future;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.Map;
import java.util.function.Supplier;

/** Requests of bare bytes through Finagle's Mux client. */
final class BodyClient implements ClientCommands.Peer<Request, Response> {
  // A longer body is answered by its length only.
  private static final int SHOWN = 65536;

  @Override
  public Service<Request, Response> connect(Name name, Words options, Counters counters) {
    Mux.Client client = (Mux.Client) ServerCommands.configured(Mux.client(), options)
      .withRequestTimeout(ClientCommands.timeout(options));
    if (counters != null) client = (Mux.Client) client.withStatsReceiver(counters);
    return client.newService(name, "body");
  }

  @Override
  public ClientCommands.Call<Request, Response> call(Words words) {
    boolean hex = words.has("hex");
    byte[] given = hex ? HexFormat.of().parseHex(words.at(0)) : words.at(0).getBytes(StandardCharsets.UTF_8);
    byte[] body = Arrays.copyOf(given, given.length + Integer.parseInt(words.option("pad", "0")));
    Arrays.fill(body, given.length, body.length, (byte) 'x');
    Path destination = Path.read(words.option("dst", "/"));
    return new ClientCommands.Call<>() {
      @Override
      public Request request() {
        return Requests.make(destination, ClientCommands.pairs(words.all("header"), false), Bufs.ownedBuf(body));
      }

      @Override
      public Object result(Response reply) {
        return shown(reply.body(), hex);
      }

      @Override
      public boolean right(Object result) {
        return result.equals(shown(Bufs.ownedBuf(body), hex));
      }
    };
  }

  private static Object shown(Buf body, boolean hex) {
    if (body.length() > SHOWN) return Json.object("length", body.length());
    return hex
      ? Json.object("length", body.length(), "hex", Buf.slowHexString(body))
      : Json.object("length", body.length(), "text", Bufs.asUtf8String(body));
  }

  /** Mux's own client has no client id, so it is set around the call. */
  @Override
  public Future<Response> within(Words options, Supplier<Future<Response>> send) {
    return options.has("client-id") ? ClientId.apply(options.option("client-id", "")).asCurrent(send::get) : send.get();
  }

  @Override
  public Map<String, Object> details(Throwable error) {
    return Json.object();
  }
}

import com.twitter.finagle.Name;
import com.twitter.finagle.Service;
import com.twitter.finagle.Thrift;
import com.twitter.finagle.ThriftMux;
import com.twitter.finagle.context.Contexts;
import com.twitter.finagle.thrift.ClientId;
import com.twitter.finagle.thrift.Headers;
import com.twitter.finagle.thrift.ThriftClientRequest;
import com.twitter.util.Future;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Predicate;
import java.util.function.Supplier;
import org.apache.thrift.TApplicationException;
import org.apache.thrift.TException;
import org.apache.thrift.protocol.TMessage;
import org.apache.thrift.protocol.TMessageType;
import org.apache.thrift.protocol.TProtocol;
import org.apache.thrift.protocol.TSet;
import org.apache.thrift.protocol.TType;

/** Calls of echo.thrift through Finagle's client of ThriftMux, or of plain Thrift. */
final class EchoClient implements ClientCommands.Peer<ThriftClientRequest, byte[]> {
  private interface Reader {
    Object read(TProtocol in) throws TException;
  }

  private static final AtomicInteger sequence = new AtomicInteger();

  private final boolean mux;

  EchoClient(boolean mux) {
    this.mux = mux;
  }

  @Override
  public Service<ThriftClientRequest, byte[]> connect(Name name, Words options, Counters counters) {
    if (!mux) return connectThrift(name, options, counters);
    ThriftMux.Client client = ServerCommands.configured(ThriftMux.client(), options)
      .withRequestTimeout(ClientCommands.timeout(options));
    if (options.has("client-id")) client = client.withClientId(new ClientId(options.option("client-id", "")));
    if (counters != null) client = client.withStatsReceiver(counters);
    return client.newService(name, "echo");
  }

  private static Service<ThriftClientRequest, byte[]> connectThrift(Name name, Words options, Counters counters) {
    Thrift.Client client = ServerCommands.configured(Thrift.client(), options)
      .withRequestTimeout(ClientCommands.timeout(options));
    if (options.has("client-id")) client = client.withClientId(new ClientId(options.option("client-id", "")));
    if (counters != null) client = client.withStatsReceiver(counters);
    return client.newService(name, "echo");
  }

  @Override
  public ClientCommands.Call<ThriftClientRequest, byte[]> call(Words words) {
    String method = words.at(0);
    return switch (method) {
      case "ping", "seen" -> call(method, (out) -> {}, (in) -> in.readString());
      case "touch" -> call(method, (out) -> Codec.text(out, 1, words.at(1)), (in) -> null);
      case "passMessage", "echo" -> {
        long number = Long.parseLong(words.at(2, "0"));
        Codec.Message message = new Codec.Message(words.at(1), number, items(words.at(3, "")));
        Object expected = EchoClient.result(message);
        yield call(method, (out) -> Codec.writeMessage(out, 1, message), (in) -> result(Codec.readMessage(in)), expected::equals);
      }
      case "fail" -> {
        long missing = Long.parseLong(words.at(2, "0"));
        yield call(method, (out) -> {
          Codec.text(out, 1, words.at(1));
          Codec.field(out, 2, TType.I64, (to) -> to.writeI64(missing));
        }, (in) -> null);
      }
      case "crash" -> call(method, (out) -> Codec.text(out, 1, words.at(1)), (in) -> in.readString());
      case "slow" -> {
        int millis = Integer.parseInt(words.at(1));
        Codec.Writer argument = (out) -> Codec.field(out, 1, TType.I32, (to) -> to.writeI32(millis));
        yield call(method, argument, (in) -> in.readString());
      }
      case "blob" -> {
        byte[] blob = blob(Integer.parseInt(words.at(1)));
        yield call(method, (out) -> Codec.bytes(out, 1, blob), (in) -> {
          byte[] back = Codec.readBytes(in);
          return Json.object("length", back.length, "equal", Arrays.equals(blob, back));
        }, Json.object("length", blob.length, "equal", true)::equals);
      }
      case "index" -> call(method, EchoClient::index, (in) -> {
        Map<String, List<String>> texts = new TreeMap<>();
        Codec.readIndex(in).forEach((key, numbers) -> texts.put(key, numbers.stream().map(String::valueOf).toList()));
        return texts;
      });
      case "note" -> note(words.at(1), !mux);
      default -> call(method, (out) -> {}, (in) -> null);
    };
  }

  @Override
  public Future<byte[]> within(Words options, Supplier<Future<byte[]>> send) {
    if (!options.has("header")) return send.get();
    Headers.Values headers = new Headers.Values(ClientCommands.pairs(options.all("header"), false));
    return Contexts.local().let(Headers.Request$.MODULE$.Key(), headers, send::get);
  }

  @Override
  public Map<String, Object> details(Throwable error) {
    if (error instanceof Codec.Refused refused) return Json.object("declared", "Refused", "why", refused.why);
    if (error instanceof Codec.Overdrawn overdrawn) {
      return Json.object("declared", "Overdrawn", "missing", String.valueOf(overdrawn.missing));
    }
    if (error instanceof TApplicationException application) return Json.object("type", application.getType());
    return Json.object();
  }

  private static ClientCommands.Call<ThriftClientRequest, byte[]> call(String method, Codec.Writer arguments,
    Reader success) {
    return call(method, arguments, success, (result) -> true);
  }

  private static ClientCommands.Call<ThriftClientRequest, byte[]> call(String method, Codec.Writer arguments,
    Reader success, Predicate<Object> right) {
    return new ClientCommands.Call<>() {
      @Override
      public boolean right(Object result) {
        return right.test(result);
      }

      @Override
      public ThriftClientRequest request() {
        return EchoClient.request(method, TMessageType.CALL, false, arguments);
      }

      @Override
      public Object result(byte[] reply) throws TException {
        TProtocol in = Codec.reading(reply);
        TMessage message = in.readMessageBegin();
        if (message.type == TMessageType.EXCEPTION) {
          TApplicationException error = new TApplicationException();
          error.read(in);
          throw error;
        }
        Object[] value = new Object[1];
        TException[] declared = new TException[1];
        Codec.fields(in, (field) -> {
          if (field.id == 0) value[0] = success.read(in);
          else if (field.id == 1) declared[0] = new Codec.Refused(Codec.readWhy(in));
          else if (field.id == 2) declared[0] = new Codec.Overdrawn(Codec.readMissing(in));
          else return false;
          return true;
        });
        if (declared[0] != null) throw declared[0];
        return value[0];
      }
    };
  }

  /** Finagle refuses a oneway request on ThriftMux: there this sends a ONEWAY message and waits for its (empty) reply. */
  private static ClientCommands.Call<ThriftClientRequest, byte[]> note(String text, boolean oneway) {
    return new ClientCommands.Call<>() {
      @Override
      public ThriftClientRequest request() {
        return EchoClient.request("note", TMessageType.ONEWAY, oneway, (out) -> Codec.text(out, 1, text));
      }

      @Override
      public Object result(byte[] reply) {
        return Json.object("length", reply.length);
      }
    };
  }

  private static ThriftClientRequest request(String method, byte type, boolean oneway, Codec.Writer arguments) {
    try {
      return new ThriftClientRequest(Codec.message(method, type, sequence.incrementAndGet(), arguments), oneway);
    } catch (TException error) {
      throw new IllegalStateException(error);
    }
  }

  private static Object result(Codec.Message message) {
    return Json.object("text", message.text(), "number", String.valueOf(message.number()), "items", message.items());
  }

  private static List<Integer> items(String words) {
    List<Integer> items = new ArrayList<>();
    for (String item : words.split(",")) if (!item.isEmpty()) items.add(Integer.parseInt(item));
    return items;
  }

  private static byte[] blob(int length) {
    byte[] blob = new byte[length];
    for (int i = 0; i < length; i++) blob[i] = (byte) i;
    return blob;
  }

  /** One call with every other type of the language in it, at the ends of their ranges. */
  private static void index(TProtocol out) throws TException {
    List<Long> ends = List.of(Long.MIN_VALUE, -1L, Long.MAX_VALUE);
    Codec.writeIndex(out, 1, new TreeMap<>(Map.of("empty", List.of(), "ends", ends)));
    List<String> names = List.of("one", "two");
    Codec.field(out, 2, TType.SET, (to) -> {
      to.writeSetBegin(new TSet(TType.STRING, names.size()));
      for (String name : names) to.writeString(name);
      to.writeSetEnd();
    });
    Codec.field(out, 3, TType.DOUBLE, (to) -> to.writeDouble(0.1));
    Codec.field(out, 4, TType.BOOL, (to) -> to.writeBool(true));
    Codec.field(out, 5, TType.BYTE, (to) -> to.writeByte((byte) -128));
    Codec.field(out, 6, TType.I16, (to) -> to.writeI16((short) -32768));
  }
}

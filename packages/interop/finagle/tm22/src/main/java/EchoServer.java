import com.twitter.finagle.Path;
import com.twitter.finagle.Service;
import com.twitter.finagle.SimpleFilter;
import com.twitter.finagle.context.Contexts;
import com.twitter.finagle.context.LocalContext;
import com.twitter.finagle.mux.Request;
import com.twitter.finagle.mux.Response;
import com.twitter.finagle.thrift.ThriftClientRequest;
import com.twitter.io.Buf;
import com.twitter.util.Future;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.apache.thrift.TApplicationException;
import org.apache.thrift.TException;
import org.apache.thrift.protocol.TField;
import org.apache.thrift.protocol.TMessage;
import org.apache.thrift.protocol.TMessageType;
import org.apache.thrift.protocol.TProtocol;
import org.apache.thrift.protocol.TSet;
import org.apache.thrift.protocol.TType;
import scala.Option;
import scala.Tuple2;
import scala.collection.Iterable;
import scala.jdk.javaapi.CollectionConverters;

/** The service of echo.thrift for one session. */
final class EchoServer extends Service<byte[], byte[]> {
  private static final LocalContext.Key<Request> REQUEST = Contexts.local().newKey();
  private final Handler handler;
  private final Session session;
  private final Service<ThriftClientRequest, byte[]> next;

  /** `next` answers `seen` in place of this server, unless it is null. */
  EchoServer(Handler handler, Session session, Service<ThriftClientRequest, byte[]> next) {
    this.handler = handler;
    this.session = session;
    this.next = next;
  }

  /** Keeps the mux request in reach of the service, which sees no more than the Thrift bytes of it. */
  static final class Envelope extends SimpleFilter<Request, Response> {
    @Override
    public Future<Response> apply(Request request, Service<Request, Response> service) {
      return Contexts.local().let(REQUEST, request, () -> service.apply(request));
    }
  }

  @Override
  public Future<byte[]> apply(byte[] bytes) {
    try {
      TProtocol in = Codec.reading(bytes);
      TMessage call = in.readMessageBegin();
      handler.count(call.name);
      return switch (call.name) {
        case "ping" -> reply(call, (out) -> Codec.text(out, 0, "pong"));
        case "touch" -> reply(call, (out) -> {});
        case "passMessage" -> {
          Codec.Message message = message(in);
          Throwable failure = message == null ? null : handler.failure(message.text());
          yield failure != null ? Future.exception(failure) : reply(call, (out) -> Codec.writeMessage(out, 0, message));
        }
        case "echo" -> {
          Codec.Message message = message(in);
          yield reply(call, (out) -> Codec.writeMessage(out, 0, message));
        }
        case "fail" -> fail(call, in);
        case "crash" -> Future.exception(new IllegalStateException(Codec.readWhy(in)));
        case "slow" -> handler.late(millis(in), bytes(call, (out) -> Codec.text(out, 0, "slow")), session);
        case "seen" -> {
          if (next != null) yield next.apply(new ThriftClientRequest(bytes, false));
          Option<Request> mux = Contexts.local().get(REQUEST);
          // Plain Thrift has neither.
          Path destination = mux.isEmpty() ? Path.empty() : mux.get().destination();
          Iterable<Tuple2<Buf, Buf>> headers = mux.isEmpty() ? CollectionConverters.asScala(List.of()) : mux.get().contexts();
          String seen = Json.write(handler.seen(session, destination, headers));
          yield reply(call, (out) -> Codec.text(out, 0, seen));
        }
        case "blob" -> {
          byte[] blob = blob(in);
          yield reply(call, (out) -> Codec.bytes(out, 0, blob));
        }
        case "index" -> {
          Map<String, List<Long>> index = index(in);
          yield reply(call, (out) -> Codec.writeIndex(out, 0, index));
        }
        case "note" -> {
          boolean oneway = call.type == TMessageType.ONEWAY;
          Console.event("note", Json.object("session", session.id, "text", Codec.readWhy(in), "oneway", oneway));
          yield Future.value(new byte[0]);
        }
        default -> Future.value(Codec.failure(call.name, call.seqid,
          new TApplicationException(TApplicationException.UNKNOWN_METHOD, "Invalid method name: '" + call.name + "'")));
      };
    } catch (TException error) {
      return Future.exception(error);
    }
  }

  private static byte[] bytes(TMessage call, Codec.Writer result) throws TException {
    return Codec.message(call.name, TMessageType.REPLY, call.seqid, result);
  }

  private static Future<byte[]> reply(TMessage call, Codec.Writer result) throws TException {
    return Future.value(bytes(call, result));
  }

  private static Future<byte[]> fail(TMessage call, TProtocol in) throws TException {
    String[] why = new String[1];
    long[] missing = new long[1];
    Codec.fields(in, (field) -> {
      if (field.id == 1 && field.type == TType.STRING) why[0] = in.readString();
      else if (field.id == 2 && field.type == TType.I64) missing[0] = in.readI64();
      else return false;
      return true;
    });
    return reply(call, (out) -> {
      if (missing[0] == 0) {
        Codec.field(out, 1, TType.STRUCT, (to) -> Codec.struct(to, (refused) -> Codec.text(refused, 1, why[0])));
      } else {
        Codec.field(out, 2, TType.STRUCT, (to) -> Codec.struct(to, (overdrawn) ->
          Codec.field(overdrawn, 1, TType.I64, (number) -> number.writeI64(missing[0]))));
      }
    });
  }

  private static Codec.Message message(TProtocol in) throws TException {
    Codec.Message[] message = new Codec.Message[1];
    Codec.fields(in, (field) -> {
      if (field.id != 1 || field.type != TType.STRUCT) return false;
      message[0] = Codec.readMessage(in);
      return true;
    });
    return message[0];
  }

  private static int millis(TProtocol in) throws TException {
    int[] millis = new int[1];
    Codec.fields(in, (field) -> {
      if (field.id != 1 || field.type != TType.I32) return false;
      millis[0] = in.readI32();
      return true;
    });
    return millis[0];
  }

  private static byte[] blob(TProtocol in) throws TException {
    byte[][] blob = new byte[1][];
    Codec.fields(in, (field) -> {
      if (field.id != 1 || field.type != TType.STRING) return false;
      blob[0] = Codec.readBytes(in);
      return true;
    });
    return blob[0];
  }

  /** Answers the map and tells of the other arguments, which no reply carries. */
  private Map<String, List<Long>> index(TProtocol in) throws TException {
    Map<String, Object> arguments = new LinkedHashMap<>();
    arguments.put("session", session.id);
    List<Map<String, List<Long>>> index = new ArrayList<>();
    Codec.fields(in, (field) -> {
      if (field.id == 1 && field.type == TType.MAP) index.add(Codec.readIndex(in));
      else return argument(in, field, arguments);
      return true;
    });
    Console.event("index", arguments);
    return index.isEmpty() ? null : index.get(0);
  }

  private static boolean argument(TProtocol in, TField field, Map<String, Object> arguments) throws TException {
    if (field.id == 2 && field.type == TType.SET) {
      Set<String> names = new TreeSet<>();
      TSet set = in.readSetBegin();
      for (int i = 0; i < set.size; i++) names.add(in.readString());
      in.readSetEnd();
      arguments.put("names", names);
    } else if (field.id == 3 && field.type == TType.DOUBLE) arguments.put("ratio", in.readDouble());
    else if (field.id == 4 && field.type == TType.BOOL) arguments.put("flag", in.readBool());
    else if (field.id == 5 && field.type == TType.BYTE) arguments.put("small", in.readByte());
    else if (field.id == 6 && field.type == TType.I16) arguments.put("short", in.readI16());
    else return false;
    return true;
  }
}

import com.twitter.finagle.Path;
import com.twitter.finagle.Service;
import com.twitter.finagle.http.Request;
import com.twitter.finagle.http.Response;
import com.twitter.finagle.http.Status;
import com.twitter.io.Buf;
import com.twitter.io.Bufs;
import com.twitter.util.Future;
import java.util.ArrayList;
import java.util.List;
import scala.Tuple2;
import scala.jdk.javaapi.CollectionConverters;

/** A service for one connection: the path says what to do, and a text in the query may ask for a failure. */
final class HttpServer extends Service<Request, Response> {
  private final Handler handler;
  private final Session session;

  HttpServer(Handler handler, Session session) {
    this.handler = handler;
    this.session = session;
  }

  @Override
  public Future<Response> apply(Request request) {
    String path = request.path().substring(1);
    Throwable failure = handler.failure(request.getParam("failure"));
    handler.count(failure == null ? path : request.getParam("failure").split(":")[0]);
    if (failure != null) return Future.exception(failure);
    return switch (path) {
      case "echo" -> Future.value(answer(Status.Ok(), request.content()));
      case "status" -> Future.value(answer(Status.fromCode(Integer.parseInt(request.getParam("code"))), "as asked"));
      case "slow" ->
        handler.late(Long.parseLong(request.getParam("millis")), answer(Status.Ok(), "slow"), session);
      case "crash" -> Future.exception(new IllegalStateException("crash"));
      case "seen" -> Future.value(answer(Status.Ok(), Json.write(
        handler.seen(session, Path.empty(), CollectionConverters.asScala(headers(request))))));
      default -> Future.value(answer(Status.NotFound(), "no such path"));
    };
  }

  private static Response answer(Status status, String text) {
    return answer(status, Bufs.utf8Buf(text));
  }

  private static Response answer(Status status, Buf content) {
    Response response = Response.apply(status);
    response.content(content);
    return response;
  }

  private static List<Tuple2<Buf, Buf>> headers(Request request) {
    List<Tuple2<Buf, Buf>> headers = new ArrayList<>();
    CollectionConverters.asJava(request.headerMap()).forEach((name, value) ->
      headers.add(new Tuple2<>(Bufs.utf8Buf(name), Bufs.utf8Buf(value))));
    return headers;
  }
}

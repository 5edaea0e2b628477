import com.twitter.finagle.Service;
import com.twitter.finagle.mux.Request;
import com.twitter.finagle.mux.Response;
import com.twitter.finagle.mux.Responses;
import com.twitter.io.Buf;
import com.twitter.io.Bufs;
import com.twitter.util.Future;
import java.util.Arrays;

/** A service for one session: the first word of a body says what to do, any other body is answered by itself. */
final class BodyServer extends Service<Request, Response> {
  // Enough for every word that means something; the rest of a long body is not worth decoding.
  private static final int TEXT = 4096;
  private final Handler handler;
  private final Session session;
  private final Service<Request, Response> next;

  /** `next` answers `seen` in place of this server, unless it is null. */
  BodyServer(Handler handler, Session session, Service<Request, Response> next) {
    this.handler = handler;
    this.session = session;
    this.next = next;
  }

  @Override
  public Future<Response> apply(Request request) {
    String text = Bufs.asUtf8String(request.body().slice(0, TEXT));
    int colon = text.indexOf(':');
    String word = colon < 0 ? text : text.substring(0, colon);
    String rest = text.substring(colon + 1);
    Throwable failure = handler.failure(text);
    switch (word) {
      case "error", "slow", "seen", "big" -> handler.count(word);
      default -> handler.count(failure == null ? "echo" : word);
    }
    if (failure != null) return Future.exception(failure);
    return switch (word) {
      case "error" -> Future.exception(new RuntimeException(rest));
      case "slow" -> handler.late(Long.parseLong(rest), Responses.make(Bufs.utf8Buf("slow")), session);
      case "seen" -> {
        if (next != null) yield next.apply(request);
        String seen = Json.write(handler.seen(session, request.destination(), request.contexts()));
        yield Future.value(Responses.make(Bufs.utf8Buf(seen)));
      }
      case "big" -> Future.value(Responses.make(big(Integer.parseInt(rest))));
      default -> Future.value(Responses.make(request.body()));
    };
  }

  private static Buf big(int length) {
    byte[] bytes = new byte[length];
    Arrays.fill(bytes, (byte) 'x');
    return Bufs.ownedBuf(bytes);
  }
}

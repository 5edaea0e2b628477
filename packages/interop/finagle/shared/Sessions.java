import com.twitter.finagle.ClientConnection;
import com.twitter.finagle.Mux$param$PingManager;
import com.twitter.finagle.Mux$param$PingManager$;
import com.twitter.finagle.Service;
import com.twitter.finagle.ServiceFactory;
import com.twitter.finagle.Stack;
import com.twitter.finagle.Status;
import com.twitter.finagle.mux.lease.exp.Lessee;
import com.twitter.finagle.mux.lease.exp.Lessor;
import com.twitter.finagle.mux.pushsession.MessageWriter;
import com.twitter.finagle.mux.transport.Message;
import com.twitter.util.Duration;
import com.twitter.util.Future;
import com.twitter.util.Time;
import io.netty.channel.Channel;
import java.lang.reflect.Field;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.function.Function;
import scala.runtime.BoxedUnit;

/** The open sessions of a server, met at three seams of Finagle: service factory, ping manager and lessor. */
final class Sessions {
  private final Map<Integer, Session> open = new ConcurrentSkipListMap<>();
  private int last;
  // A server session builds its ping manager and then registers its lessee, in one constructor on one thread.
  private final ThreadLocal<Session> starting = new ThreadLocal<>();

  Collection<Session> open() {
    return List.copyOf(open.values());
  }

  /** Those that speak mux by now. */
  Collection<Session> started() {
    return open.values().stream().filter(Session::started).toList();
  }

  synchronized int total() {
    return last;
  }

  /** A factory that gives every connection its own service, or refuses every connection. */
  <Q, A> ServiceFactory<Q, A> factory(boolean refuse, Function<Session, Service<Q, A>> service) {
    return new ServiceFactory<>() {
      @Override
      public Future<Service<Q, A>> apply(ClientConnection connection) {
        Session session = of(connection.remoteAddress());
        session.connection = connection;
        Console.event("session-open", Json.object("session", session.id, "peer", session.peer));
        connection.onClose().ensure(() -> {
          open.remove(session.id);
          Console.event("session-close", Json.object("session", session.id, "peer", session.peer));
          return BoxedUnit.UNIT;
        });
        if (refuse) return Future.exception(new IllegalStateException("no sessions here"));
        return Future.value(service.apply(session));
      }

      @Override
      public Future<BoxedUnit> close(Time deadline) {
        return Future.Done();
      }

      @Override
      public Status status() {
        return Status.Open$.MODULE$;
      }
    };
  }

  /** The server with every session of mux noted, and pings answered as Finagle does by itself. */
  @SuppressWarnings("unchecked")
  <T extends Stack.Parameterized<?>> T watching(T server) {
    Mux$param$PingManager pings = new Mux$param$PingManager((executor, writer) -> {
      Channel channel = channel(writer);
      Session session = of(channel.remoteAddress());
      channel.closeFuture().addListener((closed) -> open.remove(session.id));
      session.start(executor, writer, channel);
      starting.set(session);
      return (tag) -> writer.write(new Message.Rping(tag));
    });
    T pinging = ((Stack.Parameterized<T>) server).configured(pings, Mux$param$PingManager$.MODULE$.param());
    return ((Stack.Parameterized<T>) pinging)
      .configured(new Lessor.Param(lessor), (Stack.Param<Lessor.Param>) (Object) Lessor.Param$.MODULE$);
  }

  private final Lessor lessor = new Lessor() {
    @Override
    public void register(Lessee lessee) {
      starting.get().lessee = lessee;
    }

    @Override
    public void unregister(Lessee lessee) {}

    @Override
    public void observe(Duration latency) {}

    @Override
    public void observeArrival() {}
  };

  private synchronized Session of(SocketAddress address) {
    InetSocketAddress socket = (InetSocketAddress) address;
    String peer = socket.getAddress().getHostAddress() + ":" + socket.getPort();
    for (Session session : open.values()) if (session.peer.equals(peer)) return session;
    Session session = new Session(++last, peer);
    open.put(session.id, session);
    return session;
  }

  /** The writer keeps its channel to itself, two private fields down. */
  private static Channel channel(MessageWriter writer) {
    try {
      Field handle = writer.getClass().getDeclaredField("handle");
      handle.setAccessible(true);
      Object push = handle.get(writer);
      for (Field field : push.getClass().getDeclaredFields()) {
        if (field.getType() != Channel.class) continue;
        field.setAccessible(true);
        return (Channel) field.get(push);
      }
    } catch (ReflectiveOperationException error) {
      throw new IllegalStateException(error);
    }
    throw new IllegalStateException("no channel in " + writer);
  }
}

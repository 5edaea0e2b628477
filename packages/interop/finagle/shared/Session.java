import com.twitter.finagle.ClientConnection;
import com.twitter.finagle.mux.lease.exp.Lessee;
import com.twitter.finagle.mux.pushsession.MessageWriter;
import com.twitter.finagle.mux.transport.Message;
import com.twitter.util.Promise;
import io.netty.buffer.ByteBuf;
import io.netty.channel.Channel;
import io.netty.channel.ChannelDuplexHandler;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelPromise;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Executor;
import scala.runtime.BoxedUnit;

/** One connection to the server: what it takes to drain, lease and ping it, and a count of the frames on its wire. */
final class Session extends ChannelDuplexHandler {
  private static final int FRAGMENT = 1 << 23;

  final int id;
  final String peer;
  volatile ClientConnection connection;
  volatile Lessee lessee;
  private volatile Executor executor;
  private volatile MessageWriter writer;
  private final Map<String, Long> in = new TreeMap<>();
  private final Map<String, Long> out = new TreeMap<>();
  private int largestIn;
  private int largestOut;
  private Promise<BoxedUnit> pinged;

  Session(int id, String peer) {
    this.id = id;
    this.peer = peer;
  }

  /** Called once the handshake is over: its frames are not counted, nor is the first frame of a client without one. */
  void start(Executor executor, MessageWriter writer, Channel channel) {
    this.executor = executor;
    this.writer = writer;
    channel.pipeline().addAfter("frameEncoder", "interop", this);
  }

  /** False before the handshake is over, and for a session of plain Thrift. */
  boolean started() {
    return lessee != null;
  }

  /** Sends Tping(1), which a stock server never does, and waits for the client's Rping. */
  synchronized Promise<BoxedUnit> ping() {
    Promise<BoxedUnit> answer = new Promise<>();
    pinged = answer;
    executor.execute(() -> writer.write(new Message.Tping(1)));
    return answer;
  }

  synchronized Map<String, Object> describe() {
    return Json.object("session", id, "peer", peer, "in", new TreeMap<>(in), "out", new TreeMap<>(out),
      "largestIn", largestIn, "largestOut", largestOut);
  }

  @Override
  public void channelRead(ChannelHandlerContext context, Object frame) {
    if (frame instanceof ByteBuf bytes && bytes.readableBytes() >= 4) received(bytes);
    context.fireChannelRead(frame);
  }

  @Override
  public void write(ChannelHandlerContext context, Object frame, ChannelPromise promise) {
    if (frame instanceof ByteBuf bytes && bytes.readableBytes() >= 4) sent(bytes);
    context.write(frame, promise);
  }

  private synchronized void received(ByteBuf frame) {
    int start = frame.readerIndex();
    byte type = frame.getByte(start);
    int tag = frame.getUnsignedMedium(start + 1);
    in.merge(label(type, tag), 1L, Long::sum);
    largestIn = Math.max(largestIn, frame.readableBytes() - 4);
    switch (name(type)) {
      case "Tdiscarded", "BadTdiscarded" -> {
        int which = frame.readableBytes() < 7 ? -1 : frame.getUnsignedMedium(start + 4);
        Console.event("frame", Json.object("session", id, "type", name(type), "tag", tag, "which", which));
      }
      case "Rdrain", "Rping", "Rerr", "BadRerr" ->
        Console.event("frame", Json.object("session", id, "type", name(type), "tag", tag));
      default -> {}
    }
    if (name(type).equals("Rping") && pinged != null) {
      Promise<BoxedUnit> answer = pinged;
      pinged = null;
      answer.updateIfEmpty(new com.twitter.util.Return<>(BoxedUnit.UNIT));
    }
  }

  private synchronized void sent(ByteBuf frame) {
    int start = frame.readerIndex();
    out.merge(label(frame.getByte(start), frame.getUnsignedMedium(start + 1)), 1L, Long::sum);
    largestOut = Math.max(largestOut, frame.readableBytes() - 4);
  }

  private static String label(byte type, int tag) {
    return (tag & FRAGMENT) == 0 ? name(type) : name(type) + "+";
  }

  private static String name(byte type) {
    return switch (type) {
      case 1 -> "Treq";
      case -1 -> "Rreq";
      case 2 -> "Tdispatch";
      case -2 -> "Rdispatch";
      case 64 -> "Tdrain";
      case -64 -> "Rdrain";
      case 65 -> "Tping";
      case -65 -> "Rping";
      case 66 -> "Tdiscarded";
      case -66 -> "Rdiscarded";
      case 67 -> "Tlease";
      case 68 -> "Tinit";
      case -68 -> "Rinit";
      case -128 -> "Rerr";
      case 127 -> "BadRerr";
      case -62 -> "BadTdiscarded";
      default -> "type " + type;
    };
  }
}

import java.io.IOException;
import java.io.PrintStream;
import org.apache.zookeeper.server.quorum.QuorumPeerMain;

/** ZooKeeper's own server, of the configuration file that is its argument: alone or one of an ensemble. The end of stdin ends it. */
public final class Main {
  private Main() {}

  public static void main(String[] args) {
    PrintStream lines = System.out;
    // Whatever else is printed is no line of the protocol with the suite.
    System.setOut(System.err);
    // A killed process loses nothing that the kernel has: only a machine that loses its power needs more, and every write waits for it.
    System.setProperty("zookeeper.forceSync", "no");
    // KiB of log that are set aside at a time; of a case's few writes, 64 MiB would be.
    System.setProperty("zookeeper.preAllocSize", "1024");
    Thread watch = new Thread(Main::haltWithStdin, "stdin");
    watch.setDaemon(true);
    watch.start();
    lines.println("READY {\"pid\":" + ProcessHandle.current().pid() + "}");
    lines.flush();
    // It goes on as a single server when the file names no others.
    QuorumPeerMain.main(args);
  }

  private static void haltWithStdin() {
    try {
      while (System.in.read() >= 0) {}
    } catch (IOException ended) {
      // As its end.
    }
    Runtime.getRuntime().halt(0);
  }
}

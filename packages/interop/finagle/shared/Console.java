import com.twitter.util.Future;
import com.twitter.util.Return;
import com.twitter.util.Throw;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.logging.Level;
import java.util.logging.Logger;
import scala.runtime.BoxedUnit;

/** Commands from stdin, one a line; READY, OK, ERROR and EVENT lines to stdout. The process ends with stdin. */
final class Console {
  interface Commands {
    Future<Map<String, Object>> run(String name, Words words) throws Exception;
  }

  private static final PrintStream out =
    new PrintStream(new FileOutputStream(FileDescriptor.out), false, StandardCharsets.UTF_8);
  private static final List<Map<String, Object>> events = new ArrayList<>();
  // Held here because java.util.logging forgets the level of a logger that nobody holds.
  private static final Logger root = Logger.getLogger("");

  private Console() {}

  static void event(String name, Map<String, Object> fields) {
    Map<String, Object> event = Json.object("event", name);
    event.putAll(fields);
    synchronized (out) {
      events.add(event);
      print("EVENT " + name + " " + Json.write(fields));
    }
  }

  static List<Map<String, Object>> events() {
    synchronized (out) {
      return List.copyOf(events);
    }
  }

  static void clearEvents() {
    synchronized (out) {
      events.clear();
    }
  }

  /** Finagle tells at WARNING of each failure that a service or a call ends with, as asked for here. */
  static void quiet() {
    root.setLevel(Level.SEVERE);
  }

  /** Says READY, then serves commands until stdin ends. A command may take its time: others are served meanwhile. */
  static void serve(Map<String, Object> ready, Commands commands) throws IOException {
    print("READY " + Json.write(ready));
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      if (!line.isBlank()) command(line.trim(), commands);
    }
    Runtime.getRuntime().halt(0);
  }

  private static void command(String line, Commands commands) {
    String id = null;
    try {
      if (line.startsWith("@")) id = line.substring(1).split(" ", 2)[0];
      List<String> words = Words.split(id == null ? line : line.substring(1 + id.length()));
      String name = words.remove(0);
      String answered = id;
      commands.run(name, new Words(words)).respond((result) -> {
        if (result instanceof Return<Map<String, Object>> done) answer("OK", answered, done.r());
        else answer("ERROR", answered, Json.object("message", ((Throw<?>) result).e().toString()));
        return BoxedUnit.UNIT;
      });
    } catch (Exception error) {
      answer("ERROR", id, Json.object("message", error.toString()));
    }
  }

  private static void answer(String kind, String id, Map<String, Object> fields) {
    Map<String, Object> answer = Json.object();
    if (id != null) answer.put("id", id);
    answer.putAll(fields);
    print(kind + " " + Json.write(answer));
  }

  private static void print(String line) {
    synchronized (out) {
      out.print(line + "\n");
      out.flush();
    }
  }
}

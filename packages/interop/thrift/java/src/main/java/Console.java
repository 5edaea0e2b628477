import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;

/** Lines between this program and who started it: words come in, READY, OK, ERROR and EVENT with a JSON object go out. */
final class Console {
  private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);
  private static final BufferedReader IN =
    new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));

  private Console() {}

  /** Writes one line; any thread may. Fields are names and values in turn: text, numbers, or {@link Json}. */
  static void say(String kind, Object... fields) {
    synchronized (OUT) {
      OUT.println(kind + " " + object(fields));
    }
  }

  /** The words of the next command, its id first; null when stdin has ended. */
  static String[] next() throws IOException {
    String line = IN.readLine();
    return line == null ? null : line.substring(1).split(" ");
  }

  /** Text that is JSON already. */
  record Json(String text) {
    @Override public String toString() {
      return text;
    }
  }

  static Json object(Object... fields) {
    StringBuilder json = new StringBuilder("{");
    for (int i = 0; i < fields.length; i += 2) {
      json.append(i == 0 ? "" : ",").append(quote((String) fields[i])).append(":");
      Object value = fields[i + 1];
      json.append(value instanceof String text ? quote(text) : value);
    }
    return new Json(json.append("}").toString());
  }

  private static String quote(String text) {
    StringBuilder json = new StringBuilder("\"");
    for (char c : text.toCharArray()) {
      if (c == '"' || c == '\\') json.append('\\').append(c);
      else if (c < ' ') json.append(String.format("\\u%04x", (int) c));
      else json.append(c);
    }
    return json.append('"').toString();
  }
}

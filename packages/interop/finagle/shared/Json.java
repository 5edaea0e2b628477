import java.util.LinkedHashMap;
import java.util.Map;
import java.util.StringJoiner;

/** Writes maps, lists, strings, numbers, booleans and null as JSON on one line. */
final class Json {
  private Json() {}

  /** An object in the given order: key, value, key, value... */
  static Map<String, Object> object(Object... pairs) {
    Map<String, Object> object = new LinkedHashMap<>();
    for (int i = 0; i < pairs.length; i += 2) object.put((String) pairs[i], pairs[i + 1]);
    return object;
  }

  static String write(Object value) {
    if (value == null || value instanceof Boolean) return String.valueOf(value);
    if (value instanceof Double d && !Double.isFinite(d)) return quote(d.toString());
    if (value instanceof Number) return value.toString();
    if (value instanceof Map<?, ?> map) {
      StringJoiner fields = new StringJoiner(",", "{", "}");
      map.forEach((key, field) -> fields.add(quote(key.toString()) + ":" + write(field)));
      return fields.toString();
    }
    if (value instanceof Iterable<?> list) {
      StringJoiner items = new StringJoiner(",", "[", "]");
      list.forEach((item) -> items.add(write(item)));
      return items.toString();
    }
    return quote(value.toString());
  }

  private static String quote(String text) {
    StringBuilder out = new StringBuilder("\"");
    for (int i = 0; i < text.length(); i++) {
      char c = text.charAt(i);
      if (c == '"' || c == '\\') out.append('\\').append(c);
      else if (c >= ' ' && c < 0x7f) out.append(c);
      else out.append(String.format("\\u%04x", (int) c));
    }
    return out.append('"').toString();
  }
}

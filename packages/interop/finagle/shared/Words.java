import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.random.RandomGenerator;
import java.util.regex.Pattern;

/** Words and `--name value` options, from a command line or from the program's arguments. */
final class Words {
  private static final Set<String> FLAGS = Set.of("reject-sessions", "finagle-stats", "hex");
  private static final Set<String> VALUES = Set.of("port", "window", "client-id", "timeout", "cancel", "dtab", "dst",
    "context", "header", "pad", "requests", "concurrency", "discards", "seed", "tls", "certificate",
    "key", "ca", "clients", "hostname", "forward");
  private static final Pattern FILLER = Pattern.compile("\\{x:(\\d+)\\}");

  final List<String> plain = new ArrayList<>();
  private final Map<String, List<String>> options = new HashMap<>();

  Words(List<String> words) {
    for (int i = 0; i < words.size(); i++) {
      String word = words.get(i);
      String name = word.startsWith("--") ? word.substring(2) : null;
      if (name == null) plain.add(word);
      else if (FLAGS.contains(name)) add(name, "");
      else if (VALUES.contains(name) && i + 1 < words.size()) add(name, words.get(++i));
      else throw new IllegalArgumentException("unknown option, or one without its value: " + word);
    }
  }

  private void add(String name, String value) {
    options.computeIfAbsent(name, (key) -> new ArrayList<>()).add(value);
  }

  /** The word at `index`, or `otherwise` when there are not so many. */
  String at(int index, String otherwise) {
    return index < plain.size() ? plain.get(index) : otherwise;
  }

  String at(int index) {
    if (index < plain.size()) return plain.get(index);
    throw new IllegalArgumentException("a word is missing after: " + String.join(" ", plain));
  }

  boolean has(String name) {
    return options.containsKey(name);
  }

  List<String> all(String name) {
    return options.getOrDefault(name, List.of());
  }

  String option(String name, String otherwise) {
    List<String> values = all(name);
    return values.isEmpty() ? otherwise : values.get(values.size() - 1);
  }

  /** An option given here wins over the same option in `defaults`. */
  Words over(Words defaults) {
    Words both = new Words(plain);
    both.options.putAll(defaults.options);
    both.options.putAll(options);
    return both;
  }

  /** With `{}` in a plain word replaced by a number, and `{x:N}` by less than N times `x`. */
  Words numbered(int number, RandomGenerator random) {
    if (plain.stream().noneMatch((word) -> word.contains("{"))) return this;
    Words numbered = new Words(List.of());
    for (String word : plain) {
      String filled = FILLER.matcher(word)
        .replaceAll((match) -> "x".repeat(random.nextInt(Integer.parseInt(match.group(1)))));
      numbered.plain.add(filled.replace("{}", String.valueOf(number)));
    }
    numbered.options.putAll(options);
    return numbered;
  }

  /** Splits at spaces. A word in double quotes may hold spaces and JSON's escapes. */
  static List<String> split(String line) {
    List<String> words = new ArrayList<>();
    int i = 0;
    while (i < line.length()) {
      if (line.charAt(i) == ' ') {
        i++;
        continue;
      }
      StringBuilder word = new StringBuilder();
      if (line.charAt(i) == '"') {
        for (i++; i < line.length() && line.charAt(i) != '"'; i++) {
          if (line.charAt(i) != '\\') {
            word.append(line.charAt(i));
            continue;
          }
          char escape = line.charAt(++i);
          if (escape == 'u') {
            word.append((char) Integer.parseInt(line.substring(i + 1, i + 5), 16));
            i += 4;
          } else {
            int known = "nrtbf".indexOf(escape);
            word.append(known < 0 ? escape : "\n\r\t\b\f".charAt(known));
          }
        }
        if (i++ >= line.length()) throw new IllegalArgumentException("a quote is not closed: " + line);
      } else {
        while (i < line.length() && line.charAt(i) != ' ') word.append(line.charAt(i++));
      }
      words.add(word.toString());
    }
    return words;
  }
}

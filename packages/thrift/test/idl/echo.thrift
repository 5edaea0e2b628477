// The service that the demo, the tests, the benchmark and the interop suite speak.

struct Message {
  1: string text
  2: i64 number
  3: list<i32> items
}

exception Refused {
  1: string why
}

exception Overdrawn {
  1: i64 missing
}

service Health {
  /** Answers its argument's name back: a call with nothing in it. */
  string ping(),
  /** A method without a result. */
  void touch(1: string key)
}

service Echo extends Health {
  Message passMessage(1: Message message),
  Message echo(1: Message message),
  /** Always fails with a declared exception: Refused, or Overdrawn when `missing` is not 0. */
  void fail(1: string why, 2: i64 missing) throws (1: Refused refused, 2: Overdrawn overdrawn),
  /** Fails with what the service does not declare. */
  string crash(1: string why),
  /** Answers after so many milliseconds. */
  string slow(1: i32 millis),
  /** What the server saw of the call, as JSON. */
  string seen(),
  binary blob(1: binary bytes),
  map<string, list<i64>> index(1: map<string, list<i64>> index, 2: set<string> names, 3: double ratio, 4: bool flag, 5: byte small, 6: i16 short),
  oneway void note(1: string text)
}

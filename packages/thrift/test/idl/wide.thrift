// Every construct of the language that both compilers know, for the tests.

include "base.thrift"

typedef i64 Id
typedef list<Id> Ids
typedef map<string, base.Point> Points

const i64 SMALL = 42
const i64 LARGE = 9223372036854775807
const map<string, i32> SIZES = { "small": 1, "large": 2 }

enum Level {
  LOW = 0,
  HIGH = 10
}

struct Scalars {
  1: bool flag,
  2: i8 tiny,
  3: i16 small,
  4: i32 medium,
  5: i64 large,
  6: double real,
  7: string text,
  8: binary bytes,
  9: Level level,
  10: base.Colour colour
}

struct Presence {
  1: required string must,
  2: optional string may,
  3: i32 plain,
  4: i32 preset = 7,
  5: optional i32 mayPreset = 8,
  6: Level level = Level.HIGH,
  7: list<string> names = ["a", "b"]
}

struct Containers {
  1: list<i32> numbers,
  2: set<string> names,
  3: map<string, i32> counts,
  4: list<list<Id>> grid,
  5: map<string, Scalars> byName,
  6: map<i32, string> byNumber,
  7: map<Id, string> byId,
  8: list<base.Point> points,
  9: map<string, list<set<i32>>> deep,
  10: set<Id> ids,
  11: list<bool> flags,
  12: list<double> reals,
  13: list<binary> blobs,
  14: map<bool, string> byFlag,
  15: map<Level, base.Point> byLevel,
  16: Ids more,
  17: Points named,
  18: map<string, map<string, base.Point>> nested,
  19: map<double, string> byReal,
  20: map<i8, i16> small
}

struct Tree {
  1: i32 value,
  2: optional Tree left,
  3: optional Tree right,
  4: list<Tree> rest
}

struct Empty {
}

struct Empties {
  1: list<Empty> items,
  2: map<string, Empty> named
}

union Choice {
  1: string text,
  2: i64 number,
  3: base.Point point,
  4: list<Choice> many
}

exception Denied {
  1: string key
}

exception Broken {
  1: required i32 code,
  2: optional Scalars detail
}

service Wide extends base.Base {
  Scalars scalars(1: Scalars value),
  Presence presence(1: Presence value),
  Containers containers(1: Containers value),
  Tree tree(1: Tree value),
  Choice choice(1: Choice value),
  Empties empties(1: Empties value),
  bool flag(1: bool value),
  i8 tiny(1: i8 value),
  i16 small(1: i16 value),
  i32 medium(1: i32 value),
  i64 large(1: i64 value),
  double real(1: double value),
  string text(1: string value),
  binary bytes(1: binary value),
  Level level(1: Level value),
  list<Scalars> listed(1: list<Scalars> value),
  set<string> unique(1: set<string> value),
  map<string, Scalars> mapped(1: map<string, Scalars> value),
  Ids ids(1: Ids value),
  // Missing and Denied have one shape, and differ.
  string guarded(1: string key) throws (1: base.Missing missing, 2: Denied denied, 3: Broken broken),
  void quiet(1: string key) throws (1: Denied denied),
  i32 sum(1: i32 a, 2: i32 b, 3: optional i32 c),
  oneway void tell(1: string text, 2: Id id),
  oneway void nudge()
}

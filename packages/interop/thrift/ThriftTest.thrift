/**
 * The service that Apache Thrift's cross-language tests call. Names, types and field ids are Apache's, so that any of its
 * test servers and clients can stand in for a peer of ours; only the types that the service uses are here.
 */
namespace java thrifttest
namespace js ThriftTest
namespace py thrifttest

/** Not every number has a name, and the last two are not next to each other. */
enum Numberz {
  ONE = 1
  TWO = 2
  THREE = 3
  FIVE = 5
  SIX = 6
  EIGHT = 8
}

typedef i64 UserId

/** One field of each common type, with gaps between the ids. */
struct Xtruct {
  1: string string_thing
  4: i8 byte_thing
  9: i32 i32_thing
  11: i64 i64_thing
}

/** A struct in a struct. */
struct Xtruct2 {
  1: i8 byte_thing
  2: Xtruct struct_thing
  3: i32 i32_thing
}

/** Enumerated keys, and structs in a list. */
struct Insanity {
  1: map<Numberz, UserId> userMap
  2: list<Xtruct> xtructs
}

/** `testException` and `testMultiException` throw it. */
exception Xception {
  1: i32 errorCode
  2: string message
}

/** `testMultiException` throws it. */
exception Xception2 {
  1: i32 errorCode
  2: Xtruct struct_thing
}

/** What a method answers is said where it is not its argument. */
service ThriftTest {
  /** Nothing. */
  void testVoid()
  string testString(1: string thing)
  bool testBool(1: bool thing)
  i8 testByte(1: i8 thing)
  i32 testI32(1: i32 thing)
  i64 testI64(1: i64 thing)
  double testDouble(1: double thing)
  binary testBinary(1: binary thing)
  uuid testUuid(1: uuid thing)
  Xtruct testStruct(1: Xtruct thing)
  Xtruct2 testNest(1: Xtruct2 thing)
  map<i32, i32> testMap(1: map<i32, i32> thing)
  map<string, string> testStringMap(1: map<string, string> thing)
  set<i32> testSet(1: set<i32> thing)
  list<i32> testList(1: list<i32> thing)
  Numberz testEnum(1: Numberz thing)
  UserId testTypedef(1: UserId thing)
  /** Always { 4: 1 to 4 each by itself, -4: the same with minus signs }. */
  map<i32, map<i32, i32>> testMapMap(1: i32 hello)
  /** { 1: { TWO: the argument, THREE: the argument }, 2: { SIX: an empty Insanity } }. */
  map<UserId, map<Numberz, Insanity>> testInsanity(1: Insanity argument)
  /** An Xtruct of "Hello2" and the first three arguments. */
  Xtruct testMulti(1: i8 arg0, 2: i32 arg1, 3: i64 arg2, 4: map<i16, string> arg3, 5: Numberz arg4, 6: UserId arg5)
  /** "Xception" throws it with code 1001 and the argument; "TException" fails without a declared exception; else nothing. */
  void testException(1: string arg) throws (1: Xception err1)
  /**
   * "Xception" throws it with code 1001 and "This is an Xception"; "Xception2" throws that with code 2002 and an Xtruct of
   * "This is an Xception2"; else an Xtruct of the second argument.
   */
  Xtruct testMultiException(1: string arg0, 2: string arg1) throws (1: Xception err1, 2: Xception2 err2)
  /** Sleeps. */
  oneway void testOneway(1: i32 secondsToSleep)
}

/** The second service of a multiplexing server. */
service SecondService {
  /** `testString("` the argument `")`. */
  string secondtestString(1: string thing)
}

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.UUID;
import java.util.stream.IntStream;
import org.apache.thrift.TApplicationException;
import org.apache.thrift.TException;
import org.apache.thrift.protocol.TMultiplexedProtocol;
import org.apache.thrift.protocol.TProtocol;
import org.apache.thrift.transport.TSocket;
import org.apache.thrift.transport.TTransport;
import org.apache.thrift.transport.layered.TFramedTransport;
import thrifttest.Insanity;
import thrifttest.Numberz;
import thrifttest.SecondService;
import thrifttest.ThriftTest;
import thrifttest.Xception;
import thrifttest.Xception2;
import thrifttest.Xtruct;
import thrifttest.Xtruct2;

/** Calls every method of a server and checks what it answers. */
final class Client {
  private static final String SCRIPTS =
    "català, Ελληνικά, Русский, Հայերեն, עברית, العربية, नेपाली, বাংলা, ไทย, ქართული, አማርኛ, ᏣᎳᎩ, 中文, 日本語, 한국어, 𐌲𐌿𐍄𐌹𐍃𐌺, 😀";

  private static final Xtruct ZERO = new Xtruct("Zero", (byte) 1, -3, -5);

  private final ThriftTest.Client client;

  private Client(ThriftTest.Client client) {
    this.client = client;
  }

  static void run() throws Exception {
    Console.say("READY");
    int failed = 0;
    for (String[] words = Console.next(); words != null; words = Console.next()) {
      try {
        if (!words[1].equals("run")) throw new IllegalArgumentException("a client knows only run");
        run(words[2], words[3], words[4], Integer.parseInt(words[5]), words.length == 6);
        Console.say("OK", "id", words[0]);
      } catch (Exception | AssertionError failure) {
        failed = 1;
        Console.say("ERROR", "id", words[0], "message", failure.toString());
      }
    }
    System.exit(failed);
  }

  private static void run(String protocol, String transport, String sharing, int port, boolean uuid) throws TException {
    TSocket socket = new TSocket("127.0.0.1", port);
    // A reply that never comes is a failure, not a hang.
    socket.setTimeout(10_000);
    try (TTransport connection = transport.equals("framed") ? new TFramedTransport(socket) : socket) {
      connection.open();
      TProtocol spoken = Wire.protocol(protocol).getProtocol(connection);
      if (sharing.equals("plain")) {
        new Client(new ThriftTest.Client(spoken)).check(uuid);
      } else {
        new Client(new ThriftTest.Client(new TMultiplexedProtocol(spoken, "ThriftTest"))).check(uuid);
        SecondService.Client second =
          new SecondService.Client(new TMultiplexedProtocol(spoken, "SecondService"));
        equal("secondtestString", second.secondtestString("foobar"), "testString(\"foobar\")");
      }
    }
  }

  private interface Call<A, B> {
    B call(A thing) throws TException;
  }

  private interface Action {
    void run() throws TException;
  }

  private static void equal(String what, Object answered, Object expected) {
    if (!Objects.equals(answered, expected)) {
      throw new AssertionError(what + " answered " + answered + ", not " + expected);
    }
  }

  @SafeVarargs
  private static <A> void same(String what, Call<A, A> call, A... things) throws TException {
    for (A thing : things) equal(what, call.call(thing), thing);
  }

  private static <E extends TException> E fails(String what, Class<E> kind, Action action) throws TException {
    try {
      action.run();
    } catch (TException failure) {
      if (kind.isInstance(failure)) return kind.cast(failure);
      throw failure;
    }
    throw new AssertionError(what + " should have failed with " + kind.getSimpleName());
  }

  private void check(boolean uuid) throws TException {
    client.testVoid();
    values();
    if (uuid) {
      same("testUuid", client::testUuid, UUID.fromString("00112233-4455-6677-8899-aabbccddeeff"), new UUID(-1, -1),
        UUID.randomUUID());
    }
    structs();
    containers();
    exceptions();
    // A reply to it would be taken for the next call's.
    client.testOneway(0);
    equal("testI32 after testOneway", client.testI32(-1), -1);
    // Of these Double.equals says that NaN is itself and -0.0 is not 0.0.
    same("testDouble", client::testDouble, -5.2098523, 7.012052175215044, -5.325098235, -5.235098235, 0.0, -1.0,
      -0.000341012439638598279, Double.MIN_VALUE, Double.MAX_VALUE, -0.0, Double.NaN, Double.POSITIVE_INFINITY,
      Double.NEGATIVE_INFINITY);
  }

  private void values() throws TException {
    same("testString", client::testString, "Test", "Python".repeat(20), "", SCRIPTS, "x".repeat(100_000),
      "quote \" backslash \\ slash / \b\f\n\r\t \0 \u007f all \"\\/\b\n\r\t ]] \"]] \\\" }}}{ [[[ ");
    same("testBool", client::testBool, true, false);
    same("testByte", client::testByte, (byte) 1, (byte) 0, (byte) -1, (byte) 63, (byte) 127, (byte) -127, (byte) -128);
    same("testI32", client::testI32, -1, 0, 1, Integer.MAX_VALUE, Integer.MIN_VALUE);
    same("testI64", client::testI64, 1L, 5L, -5L, -34359738368L, 734359738368L, -734359738368L, (1L << 53) + 1,
      -(1L << 53) - 1, Long.MAX_VALUE, Long.MIN_VALUE);
    same("testEnum", client::testEnum, Numberz.values());
    same("testTypedef", client::testTypedef, 69L, 0xffffffffffffffL, 309858235082523L);
    byte[] all = new byte[256];
    for (int i = 0; i < all.length; i++) all[i] = (byte) i;
    same("testBinary", client::testBinary, ByteBuffer.wrap(all), ByteBuffer.allocate(0));
  }

  private void structs() throws TException {
    same("testStruct", client::testStruct, ZERO, new Xtruct("Zero", (byte) 1, -3, 1_000_000));
    same("testNest", client::testNest, new Xtruct2((byte) 1, ZERO, 5), new Xtruct2((byte) 0, ZERO, 0));
    Map<Short, String> map = Map.of((short) 0, "abc", Short.MIN_VALUE, "", Short.MAX_VALUE, "x");
    equal("testMulti", client.testMulti((byte) 74, 0xff00ff, 0xffffffffd0d0L, map, Numberz.FIVE, 0xf0f0f0L),
      new Xtruct("Hello2", (byte) 74, 0xff00ff, 0xffffffffd0d0L));
  }

  private void containers() throws TException {
    Map<Integer, Integer> minusTen = new HashMap<>();
    for (int i = 0; i < 5; i++) minusTen.put(i, i - 10);
    same("testMap", client::testMap, minusTen, Map.of(0, 1, 1, 2, 2, 3, 3, 4, -1, -2), Map.of());
    same("testStringMap", client::testStringMap,
      Map.of("a", "123", "a b", "with spaces ", "same", "same", "0", "numeric key", "long", SCRIPTS, SCRIPTS, "long key"),
      Map.of("a", "2", "b", "blah", "some", "thing"), Map.of());
    same("testSet", client::testSet, Set.of(1, 2, 3), Set.of(8, 1, 42), new HashSet<>(List.of(-2, -1, 0, 1, 2)), Set.of());
    same("testList", client::testList, IntStream.rangeClosed(1, 20).boxed().toList(), List.of(1, 4, 9, -42),
      new ArrayList<>(Arrays.asList(-2, -1, 0, 1, 2)), List.of());
    equal("testMapMap", client.testMapMap(42),
      Map.of(4, Map.of(1, 1, 2, 2, 3, 3, 4, 4), -4, Map.of(-1, -1, -2, -2, -3, -3, -4, -4)));

    List<Xtruct> xtructs = List.of(new Xtruct("Goodbye4", (byte) 4, 4, 4), new Xtruct("Hello2", (byte) 2, 2, 2));
    Insanity insanity = new Insanity(Map.of(Numberz.FIVE, 5L, Numberz.EIGHT, 8L), xtructs);
    Map<Long, Map<Numberz, Insanity>> insane = client.testInsanity(insanity);
    equal("testInsanity", insane.keySet(), Set.of(1L, 2L));
    equal("testInsanity", insane.get(1L), Map.of(Numberz.TWO, insanity, Numberz.THREE, insanity));
    equal("testInsanity", insane.get(2L).keySet(), Set.of(Numberz.SIX));
    Insanity six = insane.get(2L).get(Numberz.SIX);
    // An empty container may be left out.
    equal("testInsanity", six.getUserMapSize() + six.getXtructsSize(), 0);
  }

  private void exceptions() throws TException {
    client.testException("Safe");
    client.testException("success");
    Xception thrown = fails("testException", Xception.class, () -> client.testException("Xception"));
    equal("testException", List.of(thrown.getErrorCode(), thrown.getMessage()), List.of(1001, "Xception"));
    fails("testException", TApplicationException.class, () -> client.testException("TException"));

    thrown = fails("testMultiException", Xception.class, () -> client.testMultiException("Xception", "ignored"));
    equal("testMultiException", List.of(thrown.getErrorCode(), thrown.getMessage()), List.of(1001, "This is an Xception"));
    Xception2 second =
      fails("testMultiException", Xception2.class, () -> client.testMultiException("Xception2", "ignored"));
    equal("testMultiException", List.of(second.getErrorCode(), second.getStruct_thing().getString_thing()),
      List.of(2002, "This is an Xception2"));
    equal("testMultiException", client.testMultiException("success", "foobar").getString_thing(), "foobar");
  }
}

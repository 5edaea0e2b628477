import java.nio.ByteBuffer;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import org.apache.thrift.TException;
import thrifttest.Insanity;
import thrifttest.Numberz;
import thrifttest.ThriftTest;
import thrifttest.Xception;
import thrifttest.Xception2;
import thrifttest.Xtruct;
import thrifttest.Xtruct2;

/** Does what the IDL says of each method. */
final class Handler implements ThriftTest.Iface {
  private final String way;

  Handler(String way) {
    this.way = way;
  }

  @Override public void testVoid() {}

  @Override public String testString(String thing) { return thing; }

  @Override public boolean testBool(boolean thing) { return thing; }

  @Override public byte testByte(byte thing) { return thing; }

  @Override public int testI32(int thing) { return thing; }

  @Override public long testI64(long thing) { return thing; }

  @Override public double testDouble(double thing) { return thing; }

  @Override public ByteBuffer testBinary(ByteBuffer thing) { return thing; }

  @Override public UUID testUuid(UUID thing) { return thing; }

  @Override public Xtruct testStruct(Xtruct thing) { return thing; }

  @Override public Xtruct2 testNest(Xtruct2 thing) { return thing; }

  @Override public Map<Integer, Integer> testMap(Map<Integer, Integer> thing) { return thing; }

  @Override public Map<String, String> testStringMap(Map<String, String> thing) { return thing; }

  @Override public Set<Integer> testSet(Set<Integer> thing) { return thing; }

  @Override public List<Integer> testList(List<Integer> thing) { return thing; }

  @Override public Numberz testEnum(Numberz thing) { return thing; }

  @Override public long testTypedef(long thing) { return thing; }

  @Override public Map<Integer, Map<Integer, Integer>> testMapMap(int hello) {
    Map<Integer, Integer> plus = new HashMap<>();
    Map<Integer, Integer> minus = new HashMap<>();
    for (int i = 1; i <= 4; i++) {
      plus.put(i, i);
      minus.put(-i, -i);
    }
    return Map.of(4, plus, -4, minus);
  }

  @Override public Map<Long, Map<Numberz, Insanity>> testInsanity(Insanity argument) {
    Map<Numberz, Insanity> same = Map.of(Numberz.TWO, argument, Numberz.THREE, argument);
    return Map.of(1L, same, 2L, Map.of(Numberz.SIX, new Insanity(Map.of(), List.of())));
  }

  @Override public Xtruct testMulti(
    byte arg0, int arg1, long arg2, Map<Short, String> arg3, Numberz arg4, long arg5
  ) {
    return new Xtruct("Hello2", arg0, arg1, arg2);
  }

  @Override public void testException(String arg) throws TException {
    if (arg.equals("Xception")) throw new Xception(1001, arg);
    if (arg.equals("TException")) throw new TException(arg);
  }

  @Override public Xtruct testMultiException(String arg0, String arg1) throws Xception, Xception2 {
    if (arg0.equals("Xception")) throw new Xception(1001, "This is an Xception");
    if (arg0.equals("Xception2")) throw new Xception2(2002, new Xtruct().setString_thing("This is an Xception2"));
    return new Xtruct().setString_thing(arg1);
  }

  @Override public void testOneway(int secondsToSleep) throws TException {
    Console.say("EVENT oneway", "way", way, "seconds", secondsToSleep);
    try {
      Thread.sleep(secondsToSleep * 1000L);
    } catch (InterruptedException interrupted) {
      throw new TException(interrupted);
    }
  }
}

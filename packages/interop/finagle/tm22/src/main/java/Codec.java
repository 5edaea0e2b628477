import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.thrift.TApplicationException;
import org.apache.thrift.TException;
import org.apache.thrift.protocol.TBinaryProtocol;
import org.apache.thrift.protocol.TField;
import org.apache.thrift.protocol.TList;
import org.apache.thrift.protocol.TMap;
import org.apache.thrift.protocol.TMessage;
import org.apache.thrift.protocol.TMessageType;
import org.apache.thrift.protocol.TProtocol;
import org.apache.thrift.protocol.TProtocolUtil;
import org.apache.thrift.protocol.TStruct;
import org.apache.thrift.protocol.TType;
import org.apache.thrift.transport.TMemoryBuffer;
import org.apache.thrift.transport.TMemoryInputTransport;

/** The structs of echo.thrift by hand over libthrift: an absent field is null, and null is not written. */
final class Codec {
  private static final TStruct STRUCT = new TStruct();

  private Codec() {}

  record Message(String text, Long number, List<Integer> items) {}

  static final class Refused extends TException {
    final String why;

    Refused(String why) {
      super("refused: " + why);
      this.why = why;
    }
  }

  static final class Overdrawn extends TException {
    final Long missing;

    Overdrawn(Long missing) {
      super("overdrawn by " + missing);
      this.missing = missing;
    }
  }

  interface Writer {
    void write(TProtocol out) throws TException;
  }

  interface Field {
    /** True when it read the field, false to have it skipped. */
    boolean read(TField field) throws TException;
  }

  /** Lengths are bounded by the message and the version is a must: libthrift allocates whatever length it reads. */
  static TProtocol reading(byte[] bytes) {
    return new TBinaryProtocol(new TMemoryInputTransport(bytes), bytes.length, bytes.length, true, true);
  }

  /** A whole message: its header and one struct whose fields `fields` writes. */
  static byte[] message(String name, byte type, int sequence, Writer fields) throws TException {
    TMemoryBuffer buffer = new TMemoryBuffer(128);
    TProtocol out = new TBinaryProtocol(buffer);
    out.writeMessageBegin(new TMessage(name, type, sequence));
    struct(out, fields);
    out.writeMessageEnd();
    return Arrays.copyOf(buffer.getArray(), buffer.length());
  }

  static byte[] failure(String name, int sequence, TApplicationException error) throws TException {
    TMemoryBuffer buffer = new TMemoryBuffer(128);
    TProtocol out = new TBinaryProtocol(buffer);
    out.writeMessageBegin(new TMessage(name, TMessageType.EXCEPTION, sequence));
    error.write(out);
    out.writeMessageEnd();
    return Arrays.copyOf(buffer.getArray(), buffer.length());
  }

  static void struct(TProtocol out, Writer fields) throws TException {
    out.writeStructBegin(STRUCT);
    fields.write(out);
    out.writeFieldStop();
    out.writeStructEnd();
  }

  static void optional(TProtocol out, int id, byte type, Object value, Writer content) throws TException {
    if (value != null) field(out, id, type, content);
  }

  static void field(TProtocol out, int id, byte type, Writer content) throws TException {
    out.writeFieldBegin(new TField("", type, (short) id));
    content.write(out);
    out.writeFieldEnd();
  }

  static void fields(TProtocol in, Field field) throws TException {
    in.readStructBegin();
    for (TField next = in.readFieldBegin(); next.type != TType.STOP; next = in.readFieldBegin()) {
      if (!field.read(next)) TProtocolUtil.skip(in, next.type);
      in.readFieldEnd();
    }
    in.readStructEnd();
  }

  static void text(TProtocol out, int id, String text) throws TException {
    optional(out, id, TType.STRING, text, (to) -> to.writeString(text));
  }

  static void bytes(TProtocol out, int id, byte[] bytes) throws TException {
    optional(out, id, TType.STRING, bytes, (to) -> to.writeBinary(ByteBuffer.wrap(bytes)));
  }

  static void writeMessage(TProtocol out, int id, Message message) throws TException {
    optional(out, id, TType.STRUCT, message, (to) -> struct(to, (fields) -> {
      text(fields, 1, message.text);
      optional(fields, 2, TType.I64, message.number, (number) -> number.writeI64(message.number));
      optional(fields, 3, TType.LIST, message.items, (list) -> {
        list.writeListBegin(new TList(TType.I32, message.items.size()));
        for (int item : message.items) list.writeI32(item);
        list.writeListEnd();
      });
    }));
  }

  static Message readMessage(TProtocol in) throws TException {
    Object[] values = new Object[3];
    fields(in, (field) -> {
      if (field.id == 1 && field.type == TType.STRING) values[0] = in.readString();
      else if (field.id == 2 && field.type == TType.I64) values[1] = in.readI64();
      else if (field.id == 3 && field.type == TType.LIST) {
        List<Integer> items = new ArrayList<>();
        TList list = in.readListBegin();
        for (int i = 0; i < list.size; i++) items.add(in.readI32());
        in.readListEnd();
        values[2] = items;
      } else return false;
      return true;
    });
    @SuppressWarnings("unchecked")
    List<Integer> items = (List<Integer>) values[2];
    return new Message((String) values[0], (Long) values[1], items);
  }

  static void writeIndex(TProtocol out, int id, Map<String, List<Long>> index) throws TException {
    optional(out, id, TType.MAP, index, (to) -> {
      to.writeMapBegin(new TMap(TType.STRING, TType.LIST, index.size()));
      for (Map.Entry<String, List<Long>> entry : index.entrySet()) {
        to.writeString(entry.getKey());
        to.writeListBegin(new TList(TType.I64, entry.getValue().size()));
        for (long number : entry.getValue()) to.writeI64(number);
        to.writeListEnd();
      }
      to.writeMapEnd();
    });
  }

  static Map<String, List<Long>> readIndex(TProtocol in) throws TException {
    Map<String, List<Long>> index = new LinkedHashMap<>();
    TMap map = in.readMapBegin();
    for (int i = 0; i < map.size; i++) {
      String key = in.readString();
      List<Long> numbers = new ArrayList<>();
      TList list = in.readListBegin();
      for (int j = 0; j < list.size; j++) numbers.add(in.readI64());
      in.readListEnd();
      index.put(key, numbers);
    }
    in.readMapEnd();
    return index;
  }

  static byte[] readBytes(TProtocol in) throws TException {
    ByteBuffer buffer = in.readBinary();
    byte[] bytes = new byte[buffer.remaining()];
    buffer.get(bytes);
    return bytes;
  }

  static String readWhy(TProtocol in) throws TException {
    String[] why = new String[1];
    fields(in, (field) -> {
      if (field.id != 1 || field.type != TType.STRING) return false;
      why[0] = in.readString();
      return true;
    });
    return why[0];
  }

  static Long readMissing(TProtocol in) throws TException {
    Long[] missing = new Long[1];
    fields(in, (field) -> {
      if (field.id != 1 || field.type != TType.I64) return false;
      missing[0] = in.readI64();
      return true;
    });
    return missing[0];
  }
}

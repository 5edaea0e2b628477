/** The servers or the client of ThriftTest.thrift on Apache's library for Java, told over stdin what to do. */
public final class Main {
  private Main() {}

  public static void main(String[] arguments) throws Exception {
    switch (arguments[0]) {
      case "server" -> Servers.run();
      case "client" -> Client.run();
      default -> throw new IllegalArgumentException("server or client, not " + arguments[0]);
    }
  }
}

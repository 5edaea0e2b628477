import com.twitter.finagle.Stack;
import com.twitter.finagle.param.OppTls;
import com.twitter.finagle.ssl.ApplicationProtocols;
import com.twitter.finagle.ssl.CipherSuites;
import com.twitter.finagle.ssl.ClientAuth;
import com.twitter.finagle.ssl.KeyCredentials;
import com.twitter.finagle.ssl.OpportunisticTls;
import com.twitter.finagle.ssl.Protocols;
import com.twitter.finagle.ssl.TrustCredentials;
import com.twitter.finagle.ssl.client.SslClientConfiguration;
import com.twitter.finagle.ssl.server.SslServerConfiguration;
import com.twitter.finagle.transport.Transport;
import java.io.File;
import scala.Option;

/** The TLS of a client or server, as `--tls`, `--certificate`, `--key`, `--ca` and `--clients` say. */
final class Tls {
  private Tls() {}

  static <T extends Stack.Parameterized<?>> T configured(T stack, Words options) {
    String mode = options.option("tls", "off");
    if (mode.equals("off")) return stack;
    T configured = stack;
    if (!mode.equals("always")) {
      // A level is told to the peer whether or not there are keys, and without keys no TLS could start.
      OpportunisticTls.Level level = switch (mode) {
        case "desired" -> OpportunisticTls.Desired$.MODULE$;
        case "required" -> OpportunisticTls.Required$.MODULE$;
        default -> throw new IllegalArgumentException("--tls off, always, desired or required");
      };
      configured = ServerCommands.with(configured, OppTls.apply(Option.apply(level)), OppTls.param());
    }
    configured = ServerCommands.with(configured, new Transport.ServerSsl(Option.apply(server(options))),
      Transport.ServerSsl$.MODULE$.param());
    return ServerCommands.with(configured, new Transport.ClientSsl(Option.apply(client(options))),
      Transport.ClientSsl$.MODULE$.param());
  }

  private static SslServerConfiguration server(Words options) {
    ClientAuth clients = options.option("clients", "").equals("required") ? ClientAuth.Needed$.MODULE$
      : ClientAuth.Unspecified$.MODULE$;
    return new SslServerConfiguration(keys(options), clients, trust(options), CipherSuites.Unspecified$.MODULE$,
      Protocols.Unspecified$.MODULE$, ApplicationProtocols.Unspecified$.MODULE$, false);
  }

  private static SslClientConfiguration client(Words options) {
    return new SslClientConfiguration(Option.apply(options.option("hostname", null)), Option.empty(), keys(options),
      trust(options), CipherSuites.Unspecified$.MODULE$, Protocols.Unspecified$.MODULE$,
      ApplicationProtocols.Unspecified$.MODULE$, false);
  }

  private static KeyCredentials keys(Words options) {
    return options.has("certificate")
      ? new KeyCredentials.CertAndKey(new File(options.option("certificate", "")), new File(options.option("key", "")))
      : KeyCredentials.Unspecified$.MODULE$;
  }

  private static TrustCredentials trust(Words options) {
    return options.has("ca") ? new TrustCredentials.CertCollection(new File(options.option("ca", "")))
      : TrustCredentials.Unspecified$.MODULE$;
  }
}

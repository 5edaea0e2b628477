/** When TLS begins on a mux connection: one option of clients and servers. */
import { InvalidOption } from "@scales-rpc/core"
import * as Effect from "effect/Effect"

/** `always`: from the first byte; `desired` and `required`: negotiated in the mux handshake; `off`: never. */
export type TlsMode = "always" | "off" | "desired" | "required"

/** The mode that options ask for: `always` if they do not say, `off` if there are none. */
export const modeOf = (
  tls: { readonly mode?: TlsMode | undefined } | undefined
): Effect.Effect<TlsMode, InvalidOption> => {
  if (tls === undefined) return Effect.succeed("off")
  const mode = tls.mode ?? "always"
  return mode === "always" || mode === "off" || mode === "desired" || mode === "required"
    ? Effect.succeed(mode)
    : Effect.fail(new InvalidOption({ option: "tls.mode", got: mode, expected: "always, off, desired or required" }))
}

/** The ways to call the test service: what a call is written in, what it is put in, and whether services share its connection. */

/** One of them. Its name is its three words. */
export interface Way {
  readonly name: string
  readonly protocol: "binary" | "compact" | "json"
  readonly transport: "framed" | "buffered"
  readonly sharing: "plain" | "multiplexed"
}

/** All of them. */
export const ways: ReadonlyArray<Way> = (["binary", "compact", "json"] as const).flatMap((protocol) =>
  (["framed", "buffered"] as const).flatMap((transport) =>
    (["plain", "multiplexed"] as const).map((sharing) => ({
      name: `${protocol} ${transport} ${sharing}`,
      protocol,
      transport,
      sharing
    }))
  )
)

/** Those with one service on a connection. */
export const plainWays = ways.filter(({ sharing }) => sharing === "plain")

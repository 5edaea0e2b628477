/** Checks of what is said of sessions, server sets and announcements, made when a layer is built. */
import { InvalidOption } from "@scales-rpc/core"
import { durationMillis, wholeNumber } from "@scales-rpc/core/options"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { ServerSetDefaults, ZooKeeperOptions } from "../ZooKeeper.ts"
import { isAcl } from "./arguments.ts"

/** What the wire and timers can say, in milliseconds: 24.8 days. */
const maxMillis = 2 ** 31 - 1

/** A duration as milliseconds, no more than the wire and timers can say. */
export const boundedMillis = (
  option: string,
  input: Duration.Input | undefined,
  fallback: number,
  min: number
): Effect.Effect<number, InvalidOption> =>
  Effect.flatMap(durationMillis(option, input, fallback, min), (millis) =>
    millis <= maxMillis
      ? Effect.succeed(millis)
      : Effect.fail(new InvalidOption({ option, got: input, expected: `at most ${maxMillis} ms` })))

/** Fails with the first option of server sets and announcements that is none. */
export const checkServerSets = (
  { acl, empty, reads, removals }: ServerSetDefaults
): Effect.Effect<void, InvalidOption> =>
  Effect.gen(function*() {
    yield* durationMillis("removals", removals, 0)
    yield* durationMillis("empty", empty, 0)
    yield* wholeNumber("reads", reads, 1, 1)
    if (acl !== undefined && !isAcl(acl)) {
      // An id may be a hash of a password.
      const got = acl.length === 0
        ? "no entry"
        : `the permissions ${acl.map(({ permissions }) => permissions).join(", ")}`
      return yield* new InvalidOption({ option: "acl", got, expected: "entries with permissions, letters of rwcda" })
    }
  })

/** Fails with the first of what is shown to the servers that cannot be. What it is appears nowhere. */
export const checkAuth = (auth: NonNullable<ZooKeeperOptions["auth"]>): Effect.Effect<void, InvalidOption> =>
  Effect.gen(function*() {
    for (const [index, { credentials, scheme }] of auth.entries()) {
      if (!/^[!-~]+$/.test(scheme)) {
        return yield* new InvalidOption({
          option: `auth[${index}].scheme`,
          got: scheme,
          expected: "a word such as digest"
        })
      }
      if (!Redacted.isRedacted(credentials)) {
        const option = `auth[${index}].credentials`
        return yield* new InvalidOption({ option, got: typeof credentials, expected: "Redacted" })
      }
    }
  })

/**
 * Sends calls to as few endpoints as their load needs, each time to the least loaded of these: Scales' aperture balancer. A client of
 * a few calls at a time keeps a few connections to a set of thousands, and each of its endpoints sees enough calls that a
 * bad one is found out soon.
 *
 * The size follows a load band: outstanding calls, averaged over a window, for each endpoint in the aperture, whatever the
 * endpoints' weights (these decide how the load is shared inside). What goes down or becomes busy is replaced at once by one that is
 * usable, and when it heals it is one of those outside, until it is chosen again. One endpoint is exchanged now and
 * then, so that the choices of many clients do not stay uneven. Which endpoint comes in is left to chance.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Balancer from "./Balancer.ts"
import { AperturePicker, type ApertureSettings } from "./internal/AperturePicker.ts"
import { duration, given } from "./Describe.ts"
import { table } from "./metricTable.ts"
import * as Metrics from "./Metrics.ts"
import { durationMillis, finiteNumber, wholeNumber } from "./options.ts"
import { InvalidOption, type RpcError } from "./RpcError.ts"
import type { ServerSet } from "./ServerSet.ts"
import type { Family } from "./Sink.ts"
import type { Stack } from "./Stack.ts"

/** Options of the aperture. The defaults are Scales'. */
export interface ApertureOptions extends Balancer.BalancerOptions {
  /** The fewest endpoints in it, from 1; all of them when the set has fewer. Default 1. */
  readonly minSize?: number | undefined
  /**
   * The most endpoints in it, at least `minSize`. Then calls that are tried again may meet an endpoint twice. Default: as many as there are.
   */
  readonly maxSize?: number | undefined
  /** At this load for each endpoint, or less, it gets smaller, one endpoint an event. From 0; default 0.5. */
  readonly minLoad?: number | undefined
  /**
   * At this load for each endpoint, or more, it gets wider, one endpoint an event. More than `minLoad`; with less than twice as much a
   * small aperture moves to and fro. Default 2.
   */
  readonly maxLoad?: number | undefined
  /** How long it takes the average load to follow the load; 0: it is the load. Default 5 seconds. */
  readonly window?: Duration.Input | undefined
  /**
   * How often one endpoint is exchanged for another: after a time between these, chosen anew each time, 1 ms at least; or `"off"`. The newcomer
   * is opened first. Default 120 to 240 seconds.
   */
  readonly jitter?: { readonly min: Duration.Input; readonly max: Duration.Input } | "off" | undefined
  /**
   * How long an endpoint outside that has no calls stays open: what comes back within it need not be connected to again. Default 150 seconds,
   * Finagle's. One that is down is not closed: whatever waits for it to heal goes on.
   */
  readonly idleTime?: Duration.Input | undefined
}

const checked = (options: ApertureOptions): Effect.Effect<ApertureSettings, InvalidOption> =>
  Effect.gen(function*() {
    const minSize = yield* wholeNumber("minSize", options.minSize, 1, 1)
    const maxSize = yield* wholeNumber("maxSize", options.maxSize, Number.MAX_SAFE_INTEGER, minSize)
    const minLoad = yield* finiteNumber("minLoad", options.minLoad, 0.5, 0)
    const maxLoad = yield* finiteNumber("maxLoad", options.maxLoad, 2, 0)
    if (maxLoad <= minLoad) {
      return yield* new InvalidOption({ option: "maxLoad", got: maxLoad, expected: `more than minLoad, ${minLoad}` })
    }
    const windowMillis = yield* durationMillis("window", options.window, 5000)
    const idleMillis = yield* durationMillis("idleTime", options.idleTime, 150_000)
    const given: unknown = options.jitter
    if (given === "off") return { minSize, maxSize, minLoad, maxLoad, windowMillis, idleMillis, jitter: undefined }
    if (given !== undefined && (typeof given !== "object" || given === null)) {
      return yield* new InvalidOption({ option: "jitter", got: given, expected: `{ min, max } or "off"` })
    }
    const { max, min } = (options.jitter ?? {}) as { readonly min?: Duration.Input; readonly max?: Duration.Input }
    const minMillis = yield* durationMillis("jitter.min", min, 120_000, 1)
    const maxMillis = yield* durationMillis("jitter.max", max, 240_000, minMillis)
    if (maxMillis < minMillis) {
      return yield* new InvalidOption({
        option: "jitter.min",
        got: min,
        expected: `at most jitter.max, ${maxMillis} ms`
      })
    }
    return { minSize, maxSize, minLoad, maxLoad, windowMillis, idleMillis, jitter: { minMillis, maxMillis } }
  })

/**
 * The balancer for a family. A call waits for the server set's first state and for the first endpoint to open, up to its
 * deadline. Shown as `scales.aperture.*`. Fails with
 * `InvalidOption` for an option out of its range.
 */
export const layer = <Id extends string, Req, Res, E>(
  family: Family<Id, Req, Res, E | RpcError>,
  options: ApertureOptions = {}
): Layer.Layer<`${Id}/Balanced`, InvalidOption, `${Id}/Endpoints` | ServerSet | Stack> =>
  Layer.effect(
    family.Balanced,
    Effect.gen(function*() {
      const settings = yield* checked(options)
      return yield* Balancer.assemble(family, {
        description: "sends each call to the least loaded of as few endpoints as the load needs",
        options: given(options, {
          minSize: settings.minSize,
          maxSize: options.maxSize ?? "as many as there are",
          minLoad: settings.minLoad,
          maxLoad: settings.maxLoad,
          window: duration(settings.windowMillis),
          jitter: settings.jitter === undefined
            ? "off"
            : { min: duration(settings.jitter.minMillis), max: duration(settings.jitter.maxMillis) },
          idleTime: duration(settings.idleMillis)
        }),
        common: options,
        picker: (control) => makePicker(control, settings)
      })
    })
  )

const makePicker = (control: Balancer.Control, settings: ApertureSettings) =>
  Effect.gen(function*() {
    const { stack } = control
    const picker = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const made = new AperturePicker(control, settings, (move, { endpoint }) => {
          stack.log.say("debug", `aperture ${move}`, { endpoint: endpoint.key })
        })
        made.start()
        return made
      }),
      (made) => Effect.sync(() => made.stop())
    )
    const { moves } = picker
    yield* Metrics.show(
      stack,
      Metrics.value(table["scales.aperture.size"], () => picker.size),
      Metrics.value(table["scales.aperture.opening"], () => picker.opening),
      Metrics.value(table["scales.aperture.outside"], () => picker.idle),
      Metrics.value(table["scales.aperture.load_average"], () => picker.loadAverage),
      Metrics.value(table["scales.aperture.widened"], () => moves.widened),
      Metrics.value(table["scales.aperture.narrowed"], () => moves.narrowed),
      Metrics.value(table["scales.aperture.replaced"], () => moves.replaced),
      Metrics.value(table["scales.aperture.swapped"], () => moves.swapped),
      Metrics.value(table["scales.aperture.expired"], () => moves.expired)
    )
    return picker
  })

/**
 * Sends calls to a part of the endpoints that follows from which of the service's clients this one is: Finagle's deterministic aperture.
 * The clients' parts cover all endpoints evenly, by weight, with few connections and without any word between the clients;
 * for services with many clients of about equal load, whose instances know their number and how many there are.
 *
 * The part does not follow the load. Within it a call goes to the less loaded, for its share, of two endpoints drawn by their share. When nothing
 * in it is usable, calls go outside of it (Finagle's panic; we prefer what works). The order of the endpoints is Finagle's for IP
 * addresses, so that clients of both share one ring if they see the same set; names are ordered by a hash of our own.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Balancer from "./Balancer.ts"
import { WindowPicker, type WindowSettings } from "./internal/WindowPicker.ts"
import { duration, given } from "./Describe.ts"
import { table } from "./metricTable.ts"
import * as Metrics from "./Metrics.ts"
import { durationMillis, wholeNumber } from "./options.ts"
import type { InvalidOption, RpcError } from "./RpcError.ts"
import type { ServerSet } from "./ServerSet.ts"
import type { Family } from "./Sink.ts"
import type { Stack } from "./Stack.ts"

/** Options of the deterministic aperture. */
export interface DeterministicApertureOptions extends Balancer.BalancerOptions {
  /** Which of the clients this one is, from 0, less than `instances`. */
  readonly instance: number
  /** How many clients there are, from 1. */
  readonly instances: number
  /**
   * How many endpoints of equal weight a client is to have at least; all when there are fewer. The window is made of whole clients, so it is often
   * wider. From 1; default 12, Finagle's.
   */
  readonly minAperture?: number | undefined
  /** How long an endpoint outside that has no calls stays open. Default 150 seconds, Finagle's. */
  readonly idleTime?: Duration.Input | undefined
}

/**
 * The balancer for a family. A call waits for the server set's first state and for the first endpoint to open, up to its
 * deadline. Endpoints are connected to when a call first goes there. Shown as `scales.aperture.size`, `.outside`, `.coordinate`, `.rebuilds` and `.expired`. Fails
 * with `InvalidOption` for an option out of its range.
 */
export const layer = <Id extends string, Req, Res, E>(
  family: Family<Id, Req, Res, E | RpcError>,
  options: DeterministicApertureOptions
): Layer.Layer<`${Id}/Balanced`, InvalidOption, `${Id}/Endpoints` | ServerSet | Stack> =>
  Layer.effect(
    family.Balanced,
    Effect.gen(function*() {
      const instances = yield* wholeNumber("instances", options.instances ?? NaN, 1, 1)
      const instance = yield* wholeNumber("instance", options.instance ?? NaN, 0, 0, instances - 1)
      const minAperture = yield* wholeNumber("minAperture", options.minAperture, 12, 1)
      const idleMillis = yield* durationMillis("idleTime", options.idleTime, 150_000)
      const settings: WindowSettings = { instance, instances, minAperture, idleMillis }
      return yield* Balancer.assemble(family, {
        description: "sends each call to one of the endpoints that fall to this client among all clients",
        options: given(options, { instance, instances, minAperture, idleTime: duration(idleMillis) }),
        common: options,
        picker: (control) => makePicker(control, settings)
      })
    })
  )

const makePicker = (control: Balancer.Control, settings: WindowSettings) =>
  Effect.gen(function*() {
    const { stack } = control
    const picker = yield* Effect.acquireRelease(
      Effect.sync(() => new WindowPicker(control, settings)),
      (made) => Effect.sync(() => made.stop())
    )
    yield* Metrics.show(
      stack,
      Metrics.value(table["scales.aperture.size"], () => picker.size),
      Metrics.value(table["scales.aperture.outside"], () => picker.idle),
      Metrics.value(table["scales.aperture.coordinate"], () => settings.instance / settings.instances),
      Metrics.value(table["scales.aperture.rebuilds"], () => picker.rebuilds),
      Metrics.value(table["scales.aperture.expired"], () => picker.expired)
    )
    return picker
  })

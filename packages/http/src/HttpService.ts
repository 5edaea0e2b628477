/** An HTTP client as an Effect service: which calls it has, and how one gets a class of one's own for it. */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { HttpError } from "./errors.ts"
import type { HttpBody } from "./HttpBody.ts"
import type { HttpReply, StreamedReply } from "./HttpReply.ts"

/** A value in a query. */
export type QueryValue = string | number | boolean

/** What a call may say. */
export interface HttpCallOptions {
  /** Added to the path, percent-encoded; a list is a name several times, `undefined` is left out. Default: none. */
  readonly query?: Readonly<Record<string, QueryValue | ReadonlyArray<QueryValue> | undefined>> | undefined
  /**
   * Header fields, over those of the client, and of `Rpc.context(RequestHeaders, ...)`, with the same names, whatever their case; of two that
   * differ in case only, the last. A list is a field several times, which `authorization`, `content-type` and `host` may not be.
   * Default: none.
   */
  readonly headers?: Readonly<Record<string, string | ReadonlyArray<string>>> | undefined
  /** See `HttpBody`. Default: none. */
  readonly body?: HttpBody | undefined
  /** Whether a status of 400 or above fails the call, with `HttpStatusError`. Default: as the client says, `true` unless told. */
  readonly statusErrors?: boolean | undefined
  /**
   * The most bytes of the body that are taken, for calls that are answered whole: a whole number from 0 on, or the call fails with `Unsendable`,
   * whose cause is an `InvalidOption`. Default: as the client says, 5 MB unless told.
   */
  readonly maxBytes?: number | undefined
}

/** A call: `path` is that of the server, `/...`, perhaps with a query. Spaces and what is no ASCII in it are percent-encoded. */
export type HttpCall = (path: string, options?: HttpCallOptions) => Effect.Effect<HttpReply, HttpError>

/**
 * The calls of a client. GET, HEAD, OPTIONS, PUT and DELETE are sent again when they failed and may have been executed, as
 * RFC 9110 allows, the others only when that is said of a call (`Rpc.idempotent`); what provably never ran is sent again whatever it is.
 */
export interface HttpCalls {
  readonly get: HttpCall
  readonly head: HttpCall
  readonly options: HttpCall
  readonly delete: HttpCall
  readonly post: HttpCall
  readonly put: HttpCall
  readonly patch: HttpCall
  /** A call of any method but CONNECT, answered whole. */
  readonly request: (
    method: string,
    path: string,
    options?: HttpCallOptions
  ) => Effect.Effect<HttpReply, HttpError>
  /**
   * A call of any method, answered as soon as the head of the response has come. The deadline covers the body. Closing the scope cancels
   * what has not been read. A body that breaks is not asked for again.
   */
  readonly stream: (
    method: string,
    path: string,
    options?: Omit<HttpCallOptions, "maxBytes">
  ) => Effect.Effect<StreamedReply, HttpError, Scope.Scope>
}

/** The class that `HttpService` makes. */
export interface HttpService<in out Self, in out Id extends string> extends Context.ServiceClass<Self, Id, HttpCalls> {}

/**
 * Makes a service of one's own:
 *
 *     class Users extends HttpService<Users>()("Users") {}
 *
 * `yield* Users` is then its client. The id is the key of the Effect service: two clusters are two classes with two ids.
 */
export const HttpService = <Self>() => <const Id extends string>(id: Id): HttpService<Self, Id> =>
  Context.Service<Self, HttpCalls>()(id)

/** Which responses count against the endpoint that they came from. */
import { type Classifier, classifyExit, InvalidOption } from "@scales-rpc/core"
import * as Effect from "effect/Effect"
import type { HttpResponse } from "./HttpWire.ts"

/** The default: the statuses from 500 on, as tower has it; 4xx are the caller's. */
export const serverErrors = (status: number): boolean => status >= 500

/**
 * The classifier of HTTP calls: a response whose status is a failure counts as one, as a connection that breaks does. What the caller gets
 * does not depend on it, and none of them is sent again for it. A response whose body still comes is judged at the body's end, by the
 * transport, with this.
 */
export const classifier = (failure: (status: number) => boolean = serverErrors): Classifier => (exit) => {
  if (exit._tag !== "Success") return classifyExit(exit)
  const response = exit.value as HttpResponse
  return response.body instanceof Uint8Array && failure(response.status) ? "failure" : "success"
}

/** `classifier`, of an option. Fails with `InvalidOption` for what is no function. */
export const checkedClassifier = (
  failureStatus: ((status: number) => boolean) | undefined
): Effect.Effect<Classifier, InvalidOption> =>
  failureStatus === undefined || typeof failureStatus === "function"
    ? Effect.succeed(classifier(failureStatus))
    : Effect.fail(new InvalidOption({ option: "failureStatus", got: failureStatus, expected: "a function" }))

/** Methods that may be executed twice (RFC 9110, 9.2.2). */
const repeatable = new Set(["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"])

/** Whether RFC 9110 lets a request of this method be sent again that may have been executed. */
export const isIdempotent = (method: string): boolean => repeatable.has(method)

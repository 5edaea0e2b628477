/** A program that calls an HTTP service with Effect's `HttpClient`, and knows of no server, no balancer and no library of ours. */
import { Effect, Schema } from "effect"
import { HttpClient, HttpClientResponse } from "effect/http"

const User = Schema.Struct({ id: Schema.Number, name: Schema.String })

/** The names of users, asked for one by one; `undefined` for those that are not there. */
export const namesOf = (ids: ReadonlyArray<number>) =>
  Effect.gen(function*() {
    const http = HttpClient.filterStatusOk(yield* HttpClient.HttpClient)
    return yield* Effect.forEach(ids, (id) =>
      http.get(`http://localhost:3000/users/${id}`).pipe(
        Effect.flatMap(HttpClientResponse.schemaBodyJson(User)),
        Effect.map(({ name }) => name),
        Effect.catchIf(
          (error) => error._tag === "HttpClientError" && error.response?.status === 404,
          () => Effect.succeed(undefined)
        )
      ))
  })

/** The failure of a request that names another server than the service its client is for. */
import { Failure } from "@scales-rpc/core"

/**
 * A URL that is not of the service that a client calls: another host, a scheme that it does not speak, or with a user and a password in it. Nothing
 * has been sent, to nobody. It is the cause of the `InvalidUrlError` of a `BalancedHttpClient`, and of the `FetchFailed` of a `Fetch`.
 */
export class ForeignUrl extends Failure("ForeignUrl")<{
  /** The URL's, without path and credentials. */
  readonly origin: string
  /** Of the service. */
  readonly name: string
  readonly what: string
}> {
  readonly reached = "no"
  override get message(): string {
    return `${this.origin} cannot be called by the client of "${this.name}": ${this.what}`
  }
  get retryable(): boolean {
    return false
  }
}

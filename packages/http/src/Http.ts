/** What the namespace `Http` holds: the client, its ready-made stack, and the options of both. */
export { client, type HttpClientOptions } from "./HttpClient.ts"
export * from "./HttpLayer.ts"

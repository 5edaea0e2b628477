import { assert, describe, it } from "@effect/vitest"
import { Describe, describe as describeStack, type Description, Stack } from "@scales-rpc/core"
import { Effect, Redacted } from "effect"
import { inForce } from "./support.ts"

const secret = "hunter2"

/** How values are shown: as options by these names, and as the state. */
const shown = (values: Readonly<Record<string, unknown>>, given = values) =>
  Effect.gen(function*() {
    const stack = yield* Stack
    yield* stack.register({
      role: "filter",
      description: "holds secrets",
      options: Describe.given(given, given),
      snapshot: () => values
    })
    const description: Description = describeStack(stack)
    const { options, state } = description.stages.find(({ role }) => role === "filter")!
    return { options, state, text: JSON.stringify(description) + Describe.render(description) }
  }).pipe(Effect.scoped, Effect.provide(Stack.layer("text")))

describe("a secret", () => {
  const hidden: ReadonlyArray<readonly [how: string, values: Readonly<Record<string, unknown>>]> = [
    ["redacted", { anything: Redacted.make(secret) }],
    ["redacted within", { nested: { list: [{ anything: Redacted.make(secret) }] } }],
    ["called a password", { password: secret }],
    ["called a passphrase", { tls: { passphrase: secret } }],
    ["called a token", { accessToken: secret }],
    ["called a key", { key: secret, apiKey: secret, "api-key": secret, privateKey: secret }],
    ["called a secret, and is a list", { clientSecret: [secret, [secret]] }],
    ["in a map", { settings: new Map([["password", secret]]) }],
    ["in what says itself how it is shown", { settings: { toJSON: () => ({ password: secret }) } }],
    ["a field of a header as a record", { headers: { authorization: `Bearer ${secret}` } }],
    ["a field of a header as pairs", { headers: [["accept", "*/*"], ["Authorization", `Bearer ${secret}`]] }],
    ["a field of a header with several values", { headers: [["set-cookie", [secret, secret]]] }],
    ["a field of a header in a list of names and values", {
      headers: ["accept", "*/*", "x-auth-token", secret, "a", "b"]
    }],
    ["the user of a URI", { uri: `zk://admin:${secret}@zk1:2181/path` }],
    ["the user of a URI of several hosts", { uri: `zk://zk1:2181,admin:${secret}@zk2:2181/path` }],
    ["the user of a URI, with an @ in it", { uri: `zk://admin:p@${secret}@zk1:2181/path` }],
    ["the user of a URI in a list", { uris: [`tcp://a:${secret}@h:1`, `tcp://a:${secret}@h:2`] }],
    ["the user of a URI in an error", { cause: new Error(`cannot reach https://a:${secret}@h/`) }],
    ["a parameter of a URI", { url: `https://h/path?a=1&access_token=${secret}&b=2` }],
    ["a field of a header in text", { cause: `sent "authorization: Basic ${secret}" and got 401` }],
    ["a private key", { pem: `-----BEGIN PRIVATE KEY-----\n${secret}\n-----END PRIVATE KEY-----\n` }],
    ["a private key cut short", { pem: `-----BEGIN RSA PRIVATE KEY-----\n${secret}` }],
    ["bytes", { body: new TextEncoder().encode(secret) }],
    ["a buffer of bytes", { body: new TextEncoder().encode(secret).buffer }],
    ["called a session, a signature, a JWT", { session: secret, sessionId: secret, signature: secret, jwt: secret }],
    ["called what others call a password", { pwd: secret, dsn: secret, "x-auth": secret, connectionString: secret }],
    ["within what is called a secret", { credentials: { user: "me", value: secret, list: [{ of: secret }] } }],
    ["one of several credentials", { auth: [["digest", `me:${secret}`]] }],
    ["a key of a map", { pools: new Map([[`https://me:${secret}@h/`, 1]]) }],
    ["a key of a record", { pools: { [`https://me:${secret}@h/`]: 1 } }],
    ["any parameter of a URI that is an option", { uri: `zk://h/path?knock=${secret}&x=${secret}` }],
    ["any parameter of one of several URIs", { uris: [`http://h/?knock=${secret}`] }],
    ...[
      `https://h/cb#access_token=${secret}&x=1`,
      `https://store/c?sv=1&sig=${secret}`,
      `https://store/x?X-Amz-Signature=${secret}&X-Amz-Date=1`,
      `https://h/x?pwd=${secret}`,
      `https://h/x?jwt=${secret}`,
      `https://h/x?code=${secret}`,
      `https://h/x?a=1&session=${secret}`,
      `https://h/x;jsessionid=1;session=${secret}`,
      `login failed: password=${secret}`,
      `login failed for password: ${secret}`,
      `login failed, password = '${secret}'`,
      `login failed, api_key=${secret}.`,
      `Server=h;User=me;Password=${secret}`,
      `Endpoint=sb://h/;SharedAccessKey=${secret}`,
      `body {"password":"${secret}"}`,
      `body {"a":1,"refreshToken": "${secret}"}`,
      `body "{\\"password\\":\\"${secret}\\"}"`,
      `{"Authorization":"Bearer a\\"${secret}"}`,
      `no answer of me:${secret}@zk1:2181/path`,
      `see //me:${secret}@h/x`,
      `https://me:pass/${secret}@h/x`,
      `postgres://me:p#${secret}@h/db`,
      `auth failed: digest:super:${secret}`,
      `x-auth-token: ${secret}`,
      `X-Vault-Token:  ${secret}`,
      `Authorization\t${secret}`,
      `Authorization: Digest username='a', response='${secret}'\r\nAccept: */*`,
      `Cookie: a=b; c=${secret}`,
      "sent Bearer hunter2"
    ].map((text) => [`in "${text}"`, { cause: new Error(text), text }] as const)
  ]
  for (const [how, values] of hidden) {
    it.effect(`is not shown that is ${how}`, () =>
      Effect.gen(function*() {
        const { text } = yield* shown(values)
        assert.notInclude(text, secret)
        // As it is encoded, either.
        assert.notInclude(text, Buffer.from(secret).toString("base64"))
        assert.notInclude(text, [...Buffer.from(secret)].join(","))
      }))
  }

  it.effect("is no fault's cause either, nor in a line of the log", () =>
    Effect.gen(function*() {
      const stack = yield* Stack
      stack.faults.note({ what: "down", cause: new Error(`tcp://a:${secret}@h:1 refused`) })
      stack.faults.note({ what: "down", cause: `tcp://a:${secret}@h:1 refused` })
      assert.notInclude(JSON.stringify(stack.faults.list) + Describe.render(describeStack(stack)), secret)
    }).pipe(Effect.provide(Stack.layer("text"))))
})

describe("a number", () => {
  it.effect("is a secret where its name says nothing else", () =>
    Effect.gen(function*() {
      const { options, state } = yield* shown({ password: 12_345_678, pin: 1234, tokens: 7, maxTokens: 8 })
      assert.deepStrictEqual(state, { password: "<redacted>", pin: "<redacted>", tokens: 7, maxTokens: 8 })
      assert.strictEqual(options["password"]!.value, "<redacted>")
    }))
})

describe("text of a peer", () => {
  // Each was minutes of work, or more, for a pattern that begins anew everywhere.
  for (
    const piece of [
      "?key",
      "a-",
      "?a",
      "://",
      ":// ",
      "a:",
      "//a:",
      "password",
      "password:",
      "-----BEGIN A PRIVATE KEY-----",
      "-----BEGIN ",
      "bearer ",
      "basic a",
      "digest:a",
      "\"\\",
      "x-a",
      "%",
      "=",
      "&a=",
      " \t",
      "authorization"
    ]
  ) {
    it.effect(`is cut before it is looked through: a megabyte of ${JSON.stringify(piece)}`, () =>
      Effect.gen(function*() {
        const text = piece.repeat(Math.ceil(1_000_000 / piece.length))
        const { state } = yield* shown({ cause: new Error(text), list: Array(50).fill(text), text }, {})
        const { cause, list } = state as { readonly cause: string; readonly list: ReadonlyArray<string> }
        // As much as it may be, and what stands for secrets in it.
        assert.isBelow(cause.length, 30_000)
        assert.lengthOf(list, 50)
      }))
  }

  it.effect("ends with a whole word: half of a secret is not known for one", () =>
    Effect.gen(function*() {
      for (let before = 4070; before < 4100; before++) {
        const { state } = yield* shown({ text: `${"x".repeat(before - 9)} http://me:${secret}@h/` }, {})
        assert.notMatch((state as { text: string }).text, /hun/)
      }
      const { state } = yield* shown({ text: "a word ".repeat(1000) }, {})
      assert.match((state as { text: string }).text, /^(a word ){500,}a \.\.\.$|^(a word ){500,}\.\.\.$/)
    }))

  it.effect("is short where it is the cause of a fault", () =>
    Effect.gen(function*() {
      const stack = yield* Stack
      stack.faults.note({ what: "down", cause: "?key".repeat(250_000) })
      assert.isAtMost(stack.faults.list[0]!.cause!.length, 1003)
    }).pipe(Effect.provide(Stack.layer("text"))))
})

describe("what somebody else has named", () => {
  it.effect("is not hidden for its name: methods, services, errors", () =>
    Effect.gen(function*() {
      const calls = { requests: 1, failures: { password: 1, secret: 2 }, quantiles: [[0.5, 1]] }
      const state = {
        methods: { ping: calls, refreshToken: calls, resetPassword: calls, key: calls },
        services: { Auth: calls },
        Auth: { login: calls },
        TokenService: { authorization: calls },
        failures: { pin: 3 }
      }
      const options = { methods: { Auth: ["refreshToken", "login"], TokenService: ["key", "auth", "get"] } }
      assert.deepStrictEqual((yield* shown(state, {})).state, state)
      assert.deepStrictEqual((yield* shown({}, options)).options, inForce({}, options))
    }))
})

describe("what is no secret", () => {
  it.effect("is shown as it is", () =>
    Effect.gen(function*() {
      const values = {
        uri: "zk://zk1:2181,zk2:2181/path#admin",
        path: "unix:///run/me@host.sock",
        mail: "me@example.org",
        tokens: 12,
        maxTokens: 3,
        keys: true,
        servers: ["10.0.0.1", "10.0.0.2"],
        quantiles: [[0.5, 1.5], [0.9, 2.5]],
        empty: null,
        none: []
      }
      const { options, state } = yield* shown(values)
      assert.deepStrictEqual(options, inForce({}, values))
      assert.deepStrictEqual(state, values)
    }))

  it.effect("is shown as JSON can hold it", () =>
    Effect.gen(function*() {
      const endless: { self?: unknown } = {}
      endless.self = endless
      const { state, text } = yield* shown({
        limit: Infinity,
        none: NaN,
        big: 1n,
        at: new Date(0),
        when: () => true,
        of: new Set([1, 2]),
        by: new Map<unknown, unknown>([[1, "one"]]),
        error: new Error("why"),
        gone: undefined,
        get broken(): string {
          throw new Error("no")
        },
        endless
      }, {})
      assert.deepInclude(state as object, {
        limit: "Infinity",
        none: "NaN",
        big: "1",
        at: "1970-01-01T00:00:00.000Z",
        when: "a function",
        of: [1, 2],
        by: { 1: "one" },
        error: "why",
        broken: "cannot be read"
      })
      assert.notProperty(state, "gone")
      assert.isBelow(text.length, 3000)
    }))

  it.effect("is shown in words where it cannot be looked at", () =>
    Effect.gen(function*() {
      const no = () => {
        throw new Error("no")
      }
      const { state } = yield* shown({
        keys: [new Proxy({}, { ownKeys: no })],
        has: new Proxy({}, { has: no }),
        prototype: new Proxy({}, { getPrototypeOf: no }),
        json: {
          get toJSON() {
            return no()
          }
        },
        message: Object.assign(new Error(), { message: { a: 1 } }),
        name: Object.assign(new Error(), { message: "", name: 1 }),
        symbol: Symbol("s"),
        by: new Map([[Object.create(null), 1]]),
        ["__proto__"]: 1,
        after: "still here"
      }, {})
      assert.deepStrictEqual(state, {
        keys: ["cannot be read"],
        has: "cannot be read",
        prototype: "cannot be read",
        json: "cannot be read",
        message: "Error",
        name: "an error",
        symbol: "Symbol(s)",
        by: { "what has no text": 1 },
        ["__proto__"]: 1,
        after: "still here"
      })
    }))

  it.effect("is left out where there is more than somebody can look at", () =>
    Effect.gen(function*() {
      // Each in each: as many ways through them as there are in no memory.
      const nodes = Array.from({ length: 12 }, (): Record<string, unknown> => ({}))
      for (const node of nodes) nodes.forEach((other, nth) => node[`to${nth}`] = other)
      const stack = yield* Stack
      yield* stack.register({
        role: "filter",
        description: "is entangled",
        options: Describe.given({}, { nodes }),
        snapshot: () => nodes
      })
      const values = (of: unknown): number =>
        1 + (typeof of === "object" && of !== null ? Object.values(of).reduce((sum, one) => sum + values(one), 0) : 0)
      const find = (description: Description) => description.stages.find(({ role }) => role === "filter")!
      const { options, state } = find(describeStack(stack, { endpoints: 100 }))
      assert.isBelow(values(options), 21_000)
      assert.isBelow(values(state), 32_000)
      assert.isBelow(values(find(describeStack(stack)).state), 1_001_000)
    }).pipe(Effect.scoped, Effect.provide(Stack.layer("text"))))

  it.effect("is shown wherever it is, unless it is in itself", () =>
    Effect.gen(function*() {
      const shared = { a: 1 }
      const ring: Record<string, unknown> = { shared }
      ring["ring"] = ring
      const { state } = yield* shown({ one: shared, two: [shared, shared], ring }, {})
      assert.deepStrictEqual(state, {
        one: { a: 1 },
        two: [{ a: 1 }, { a: 1 }],
        ring: { shared: { a: 1 }, ring: "..." }
      })
    }))
})

import { assert, describe, it } from "@effect/vitest"
import { InvalidUri } from "@scales-rpc/core"
import { parseHosts, parseServerSetUri } from "../src/uri.ts"

const parse = (uri: string) => parseServerSetUri(uri, uri.slice("zk://".length))

describe("a zk:// URI", () => {
  const good: ReadonlyArray<[uri: string, connect: string, path: string, name?: string]> = [
    ["zk://zk1:2181/services/echo", "zk1:2181", "/services/echo"],
    ["zk://zk1/echo", "zk1:2181", "/echo"],
    ["zk://zk1,zk2:2182,zk3/a/b/c", "zk1:2181,zk2:2182,zk3:2181", "/a/b/c"],
    ["zk://zk1,zk1:2181,zk2/a", "zk1:2181,zk2:2181", "/a"],
    ["zk://zk1/echo#http", "zk1:2181", "/echo", "http"],
    ["zk://zk1/echo#http#1", "zk1:2181", "/echo", "http#1"],
    ["zk://10.0.0.1:1,10.0.0.2:65535/a", "10.0.0.1:1,10.0.0.2:65535", "/a"],
    ["zk://[::1]/a", "[::1]:2181", "/a"],
    ["zk://[2001:db8::1]:2182,zk1/a", "[2001:db8::1]:2182,zk1:2181", "/a"],
    ["zk://[fe80::1%eth0]:2182/a", "[fe80::1%eth0]:2182", "/a"],
    ["zk://zk-1.example.com.:2181/a", "zk-1.example.com.:2181", "/a"],
    ["zk://my_zk/a", "my_zk:2181", "/a"],
    ["zk://zk1/with space/%20/ü/a:b,c?d", "zk1:2181", "/with space/%20/ü/a:b,c?d"],
    ["zk://zk1/.../..a/a..", "zk1:2181", "/.../..a/a.."]
  ]

  const bad: ReadonlyArray<[uri: string, what: RegExp]> = [
    ["zk://", /a host is empty/],
    ["zk:///a", /a host is empty/],
    ["zk://zk1,/a", /a host is empty/],
    ["zk://,zk1/a", /a host is empty/],
    ["zk://:2181/a", /":2181" has no host/],
    ["zk://[]/a", /"\[\]" has no host/],
    ["zk://zk1", /names no path/],
    ["zk://zk1/", /names no path/],
    ["zk://zk1#http", /names no path/],
    ["zk://zk1/a/", /ends with a slash/],
    ["zk://zk1//a", /an empty part/],
    ["zk://zk1/a//b", /an empty part/],
    ["zk://zk1/a/../b", /is relative/],
    ["zk://zk1/.", /is relative/],
    ["zk://zk1/a\0b", /a character that ZooKeeper does not take/],
    ["zk://zk1/a\nb", /a character that ZooKeeper does not take/],
    ["zk://zk1/\u{1f600}", /a character that ZooKeeper does not take/],
    ["zk://zk1/a#", /the name of the endpoint is empty/],
    ["zk://zk1:0/a", /"0" is no port/],
    ["zk://zk1:65536/a", /"65536" is no port/],
    ["zk://zk1:/a", /"" is no port/],
    ["zk://zk1:port/a", /"port" is no port/],
    ["zk://zk1:2181.5/a", /"2181.5" is no port/],
    ["zk://zk1:-1/a", /"-1" is no port/],
    ["zk://::1/a", /not in brackets/],
    ["zk://2001:db8::1:2181/a", /not in brackets/],
    ["zk://[::1/a", /no closing bracket/],
    ["zk://[::1]x/a", /"x" is no port/],
    ["zk://[zk1]:2181/a", /"zk1" is no IPv6 address/],
    ["zk://[10.0.0.1]/a", /"10.0.0.1" is no IPv6 address/],
    ["zk://[1:2:3]/a", /"1:2:3" is no IPv6 address/],
    ["zk://256.0.0.1/a", /"256.0.0.1" is no host/],
    ["zk://010.0.0.1/a", /"010.0.0.1" is no host/],
    ["zk://zk 1/a", /"zk 1" is no host/],
    ["zk://-zk1/a", /"-zk1" is no host/],
    ["zk://user@zk1/a", /"user@zk1" is no host/],
    [`zk://${"z".repeat(256)}/a`, /is no host/]
  ]

  for (const [uri, connect, path, endpointName] of good) {
    it(`reads ${uri}`, () => assert.deepStrictEqual(parse(uri), { connect, path, endpointName }))
  }

  for (const [uri, what] of bad) {
    it(`refuses ${JSON.stringify(uri)}`, () => {
      const result = parse(uri)
      assert.instanceOf(result, InvalidUri)
      assert.match(result.what, what)
      assert.strictEqual(result.uri, uri)
    })
  }
})

describe("a list of servers", () => {
  it("is read with the default port, brackets taken away, and each server once", () => {
    assert.deepStrictEqual(parseHosts("x", "a,[::1]:1,a:2181"), [{ host: "a", port: 2181 }, { host: "::1", port: 1 }])
  })
})

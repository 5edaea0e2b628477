/** nginx, on ports of 127.0.0.1: files, fixed answers, connections that it closes soon, limits, TLS, HTTP/2, and Node's server behind it. */
import { Certificates } from "@scales-rpc/core/testing"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { once } from "node:events"
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { type AddressInfo, createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { type PeerError, start } from "../../Peer.ts"
import { execute, Missing } from "../../Toolchain.ts"

/** One server for each way that it treats connections. */
const ways = ["plain", "brief", "few", "tls", "mutual", "http2"] as const

/** The servers of one nginx. */
export interface Nginx {
  /**
   * `127.0.0.1:port` of each: `brief` closes a connection that idles for 50 ms, `few` one with its third response, `mutual` wants a
   * certificate of its clients, `http2` speaks that to who asks for it.
   */
  readonly address: Readonly<Record<(typeof ways)[number], string>>
  /** Has new workers take over; completes when the old ones, and with them their connections, are gone. */
  readonly reload: Effect.Effect<void, PeerError>
}

/** Vouches for the server, and for clients that `mutual` lets in. */
export const authority = Certificates.authority("interop http")

/** The file at `/text`: compressible, and more than one packet. */
export const text = Array.from({ length: 5000 }, (_, i) => `line ${i} of a text\n`).join("")

/** No request body may be larger. */
export const largestBody = 1_000_000

const server = authority.issue({ name: "nginx" })

/** Debian's is not in the path of those who are not root. */
const find = Effect.gen(function*() {
  for (const command of ["nginx", "/usr/sbin/nginx"]) {
    const { code } = yield* execute(command, ["-v"])
    if (code === 0) return command
  }
  return yield* new Missing({ what: "no nginx (`nginx`) here; on Debian: apt-get install nginx-light" })
})

/** Makes sure that it can be started. */
export const prepare: Effect.Effect<void, Missing> = Effect.asVoid(find)

/** Ports that are free now, each another one. */
const freePorts = (count: number) =>
  Effect.promise(async () => {
    const listening = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"))
    await Promise.all(listening.map((each) => once(each, "listening")))
    const ports = listening.map((each) => (each.address() as AddressInfo).port)
    await Promise.all(listening.map((each) => once(each.close(), "close")))
    return ports
  })

const configuration = (ports: Readonly<Record<(typeof ways)[number], number>>, node: string): string => `
daemon off;
${process.getuid?.() === 0 ? "user root;" : ""}
worker_processes 2;
pid nginx.pid;
error_log stderr notice;
events { worker_connections 512; }
http {
  access_log off;
  client_body_temp_path temp;
  proxy_temp_path temp;
  fastcgi_temp_path temp;
  uwsgi_temp_path temp;
  scgi_temp_path temp;
  default_type text/plain;
  gzip on;
  gzip_types text/plain;
  gzip_min_length 100;
  client_max_body_size ${largestBody};
  add_header x-served-by nginx always;

  # Which connection of its worker's this is, and which request of the connection.
  map $request_uri $seen { default "$pid-$connection $connection_requests $server_protocol $request_method $request_uri"; }

  server {
    listen 127.0.0.1:${ports.plain};
    root files;
    location = /seen { return 200 $seen; }
    location = /nothing { return 204; }
    location = /moved { return 301 http://elsewhere.invalid/there; }
    location = /refused { return 403 "not for you"; }
    location = /trailed { alias files/text; add_trailer x-sum $content_length$request_method; }
    location = /dripping { alias files/text; gzip off; limit_rate 20k; }
    location /node/ {
      proxy_pass http://${node}/;
      proxy_http_version 1.1;
      proxy_set_header connection "";
      proxy_request_buffering off;
      proxy_buffering off;
    }
  }
  server {
    listen 127.0.0.1:${ports.brief};
    keepalive_timeout 50ms;
    location = /seen { return 200 $seen; }
  }
  server {
    listen 127.0.0.1:${ports.few};
    keepalive_requests 3;
    location = /seen { return 200 $seen; }
  }

  ssl_certificate server.pem;
  ssl_certificate_key server.key;
  ssl_client_certificate authority.pem;
  server {
    listen 127.0.0.1:${ports.tls} ssl;
    root files;
    location = /seen { return 200 "$seen $ssl_server_name"; }
  }
  server {
    listen 127.0.0.1:${ports.mutual} ssl;
    ssl_verify_client on;
    location = /seen { return 200 "$seen $ssl_client_s_dn"; }
  }
  server {
    listen 127.0.0.1:${ports.http2} ssl http2;
    root files;
    location = /seen { return 200 $seen; }
  }
}
`

/** Starts one, with Node's server at `node` behind it. */
export const serve = (node: string): Effect.Effect<Nginx, PeerError | Missing, Scope.Scope> =>
  Effect.gen(function*() {
    const command = yield* find
    const folder = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "scales-interop-nginx-"))),
      (made) => Effect.sync(() => rmSync(made, { recursive: true }))
    )
    const free = yield* freePorts(ways.length)
    const ports = Object.fromEntries(ways.map((way, i) => [way, free[i]!])) as Record<(typeof ways)[number], number>
    yield* Effect.sync(() => {
      for (const name of ["files", "temp"]) mkdirSync(join(folder, name))
      for (
        const [name, content] of [
          ["nginx.conf", configuration(ports, node)],
          ["files/text", text],
          ["server.pem", server.certificate],
          ["server.key", server.key],
          ["authority.pem", authority.certificate]
        ] as const
      ) writeFileSync(join(folder, name), content)
    })
    const peer = yield* start({
      name: "nginx",
      command: process.execPath,
      args: ["--conditions=@scales-rpc/source", fileURLToPath(new URL("run.ts", import.meta.url)), command, folder],
      cwd: folder
    })
    return {
      address: Object.fromEntries(ways.map((way) => [way, `127.0.0.1:${ports[way]}`])) as Nginx["address"],
      reload: Effect.asVoid(peer.command(["reload"]))
    }
  })

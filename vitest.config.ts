import { defineConfig } from "vitest/config"

// Everything runs from `src`: the `@scales-rpc/source` condition of each package's exports.
const conditions = ["@scales-rpc/source", "module", "node", "development|production"]

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    include: ["packages/*/test/**/*.test.ts"],
    sequence: { concurrent: false },
    // Generated code `require`s its neighbours: loaded by Node, not inlined, so that there is one class of each exception.
    server: { deps: { external: [/\/gen\w*\/[^/]+\.js$/] } },
    testTimeout: 20_000,
    reporters: ["default"]
  }
})

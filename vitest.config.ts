import { defineConfig } from "vitest/config"

// Everything runs from `src`: the `source` condition of each package's exports.
const conditions = ["source", "module", "node", "development|production"]

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    include: ["packages/*/test/**/*.test.ts"],
    sequence: { concurrent: false },
    testTimeout: 20_000,
    reporters: ["default"]
  }
})

/** @file How the TypeScript tests run: one file a process, two at a time, so that the C++ they build is built once. */
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    exclude: ["**/node_modules/**", "**/fixtures/**"],
    pool: "forks",
    testTimeout: 30_000,
    hookTimeout: 180_000,
    snapshotFormat: { escapeString: false, printBasicPrototype: false },
    coverage: { provider: "v8", include: ["src/**/*.ts"], reporter: ["text-summary", "html"] },
  },
});

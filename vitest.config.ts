/** @file How the TypeScript tests run: a process for each file, since some load native code; time to compile C++. */
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // What needs a GPU is run by npm run test:gpu.
    exclude: ["**/node_modules/**", "**/fixtures/**", "test/gpu/**"],
    pool: "forks",
    // Vitest leaves a core to itself, which is half of two.
    maxWorkers: "100%",
    testTimeout: 30_000,
    hookTimeout: 180_000,
    snapshotFormat: { escapeString: false, printBasicPrototype: false },
    coverage: { provider: "v8", include: ["src/**/*.ts"], reporter: ["text-summary", "html"] },
  },
});

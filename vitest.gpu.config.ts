/** @file The tests that need a GPU: one file at a time, since they share its memory. */
import { defineConfig, mergeConfig } from "vitest/config";
import base from "./vitest.config.ts";

export default defineConfig({
  ...base,
  test: {
    ...mergeConfig(base, {}).test,
    include: ["test/gpu/**/*.test.ts"],
    exclude: ["**/node_modules/**"],
    fileParallelism: false,
    testTimeout: 120_000,
    hookTimeout: 400_000,
  },
});

/** @file The ops that src/nn declares are those of the records. BLESS=1 writes the file anew. */
import { readFileSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { declarations } from "../../src/frontend/declarations.ts";

const file = new URL("../../src/nn/ops.ts", import.meta.url);

test("src/nn/ops.ts is what the records say", () => {
  if (process.env.BLESS) writeFileSync(file, declarations());
  expect(readFileSync(file, "utf8")).toBe(declarations());
});

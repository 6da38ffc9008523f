/** @file The generated pages say what the records say. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { architecturePage, irSchemaPage, opsPage, passesPage } from "../scripts/reference.ts";

const read = (page: string): string =>
  readFileSync(fileURLToPath(new URL(`../docs/${page}`, import.meta.url)), "utf8");

test("docs/ops.md is what `npm run docs` writes", () => expect(read("ops.md")).toBe(opsPage()));
test("docs/passes.md is what `npm run docs` writes", () => expect(read("passes.md")).toBe(passesPage()));
test("docs/ir.schema.json is what `npm run docs` writes", () => {
  expect(read("ir.schema.json")).toBe(irSchemaPage());
});
test("ARCHITECTURE.md shows what the compiler writes: `npm run docs` renews it", async () => {
  expect(read("../ARCHITECTURE.md")).toBe(await architecturePage());
}, 60_000);

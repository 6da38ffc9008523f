/** @file Every example that needs nothing from outside runs, and its loss falls. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { fileURLToPath } from "node:url";
import { afterAll, expect, test } from "vitest";
import { compileConfig } from "../src/compile.ts";
import { loadConfig } from "../src/config/load.ts";
import { train } from "../src/launch/train.ts";

const scratch = mkdtempSync(join(tmpdir(), "ithaca-examples-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const configOf = (name: string, ...overrides: string[]) =>
  loadConfig(fileURLToPath(new URL(`../examples/${name}/config.yaml`, import.meta.url)), overrides);

test.each([
  ["a definition of our own", "definition"],
  ["an op of our own", "custom-op"],
])("%s trains", async (_, name) => {
  const output = join(scratch, name);
  const config = configOf(name, `output_dir=${output}`);
  const quiet = { report: () => {}, lines: new PassThrough().resume() };
  const { exitCode } = await train(await compileConfig(config), config, quiet);
  expect(exitCode).toBe(0);
  const losses = readFileSync(join(output, "metrics.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => (JSON.parse(line) as { loss: number }).loss);
  expect(losses).toHaveLength(10);
  expect(losses[9]).toBeLessThan(losses[0] - 0.2);
});

test("its mistakes are shown where they are", async () => {
  const config = configOf("definition", "model.config.heads=5");
  await expect(compileConfig(config)).rejects.toThrow("5 heads do not divide 64");
});

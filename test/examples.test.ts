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

interface Metrics {
  readonly loss: number;
  readonly bytes_sent: number;
}

/** Trains the example and gives what metrics.jsonl says of each step. */
async function trained(name: string, run: string, ...overrides: string[]): Promise<Metrics[]> {
  const output = join(scratch, run);
  const config = configOf(name, `output_dir=${output}`, ...overrides);
  const quiet = { report: () => {}, lines: new PassThrough().resume() };
  const { exitCode } = await train(await compileConfig(config), config, quiet);
  expect(exitCode).toBe(0);
  const lines = readFileSync(join(output, "metrics.jsonl"), "utf8").trim().split("\n");
  return lines.map((line) => JSON.parse(line) as Metrics);
}

test.each([
  ["a definition of our own", "definition"],
  ["an op of our own", "custom-op"],
])("%s trains", async (_, name) => {
  const losses = (await trained(name, name)).map(({ loss }) => loss);
  expect(losses).toHaveLength(10);
  expect(losses[9]).toBeLessThan(losses[0] - 0.2);
});

test("its mistakes are shown where they are", async () => {
  const config = configOf("definition", "model.config.heads=5");
  await expect(compileConfig(config)).rejects.toThrow("5 heads do not divide 64");
});

test("reduce-in-bf16 sends half the bytes, and two ranks learn all the same", async () => {
  const file = fileURLToPath(new URL("../examples/passes/reduce-in-bf16.ts", import.meta.url));
  const passes = `passes=${JSON.stringify([{ file, after: "reduce" }])}`;
  const whole = await trained("definition", "whole", "parallel.data=2");
  const half = await trained("definition", "half", "parallel.data=2", passes);
  // The norms' weights and the loss are too small to be worth it.
  expect(half[0].bytes_sent).toBeLessThan(0.52 * whole[0].bytes_sent);
  const [first, last] = [half[0].loss, half[9].loss];
  // The first loss is from before any gradient; later ones differ, by the rounding of bf16.
  expect(first).toBe(whole[0].loss);
  expect(last).not.toBe(whole[9].loss);
  expect(Math.abs(last - whole[9].loss)).toBeLessThan(1e-3);
  expect(last).toBeLessThan(first - 0.2);
}, 120_000);

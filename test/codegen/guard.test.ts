/** @file The debug build under AddressSanitizer: a training run touches no byte of nobody, and one that does is ended. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { afterAll, beforeAll, expect, test } from "vitest";
import { compileConfig } from "../../src/compile.ts";
import { parseConfig } from "../../src/config/load.ts";
import { train } from "../../src/launch/train.ts";
import { smallModel, writeTokens } from "../support/one-step.ts";

const scratch = mkdtempSync(join(tmpdir(), "ithaca-guard-"));
/** The runtime is compiled for this alone; -O1 takes half as long as -O3, and sees the same touches. */
const SETTINGS = {
  ITHACA_POISON: "1",
  CXXFLAGS: `${process.env.CXXFLAGS ?? ""} -fsanitize=address -O1`,
  LDFLAGS: `${process.env.LDFLAGS ?? ""} -fsanitize=address`,
  // What libraries keep to the end is not our concern here.
  ASAN_OPTIONS: "detect_leaks=0",
};
const before = { ...process.env };

beforeAll(() => {
  Object.assign(process.env, SETTINGS);
});
afterAll(() => {
  process.env = before;
  rmSync(scratch, { recursive: true, force: true });
});

/** g++ on a busy machine: the whole runtime, and two programs. */
const BUILDS_MS = 900_000;

const SEQUENCE = 48;

function configFor(output: string) {
  const values = {
    ...{ model: smallModel({ num_hidden_layers: 4 }), parallel: { sequence: 2 }, precision: "bf16" },
    ...{
      data: writeTokens(
        scratch,
        Array.from({ length: 4 * SEQUENCE }, (_, i) => (i * i) % 61),
      ),
    },
    ...{ sequence_length: SEQUENCE, gradient_accumulation_steps: 2, threads: 1, max_steps: 2 },
    memory: { activation_checkpointing: "layer", activation_offload: "host", tiled_loss: 2, tiled_mlp: 3 },
    ...{ learning_rate: 1e-2, output_dir: output },
  };
  return parseConfig(JSON.stringify(values), join(output, "config.yaml"));
}

test("two steps with tiles, micro batches, offload and two ranks", { timeout: BUILDS_MS }, async () => {
  const output = mkdtempSync(join(scratch, "run-"));
  const config = configFor(output);
  const silent = { report: () => {}, lines: new PassThrough().resume() };
  const result = await train(await compileConfig(config), config, silent);
  expect(result.exitCode).toBe(0);
  const lines = readFileSync(join(output, "metrics.jsonl"), "utf8").trim().split("\n");
  expect(lines.map((line) => Number.isFinite(JSON.parse(line).loss))).toEqual([true, true]);
});

test("a step that writes where a value was ends the run", { timeout: BUILDS_MS }, async () => {
  const output = mkdtempSync(join(scratch, "run-"));
  const config = configFor(output);
  const compiled = await compileConfig(config);
  const given = /give_back_bytes\((d\.base \+ \d+), \d+\);/;
  const at = compiled.sources.findIndex(({ text }) => given.test(text));
  expect(at).toBeGreaterThanOrEqual(0);
  const sources = compiled.sources.map((source, i) =>
    i === at ? { ...source, text: source.text.replace(given, "$& std::memset($1, 0, 1);") } : source,
  );
  const lines = new PassThrough();
  const result = await train({ ...compiled, sources }, config, { report: () => {}, lines: lines.resume() });
  expect(result.exitCode).not.toBe(0);
});

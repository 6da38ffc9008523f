/** @file Training with checkpoints in host memory has the same bits as without. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { afterAll, expect, test } from "vitest";
import { compileConfig } from "../../src/compile.ts";
import { parseConfig } from "../../src/config/load.ts";
import { train } from "../../src/launch/train.ts";
import { smallModel, writeTokens } from "../support/one-step.ts";

const scratch = mkdtempSync(join(tmpdir(), "ithaca-offload-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const SEQUENCE = 96;
const MICRO_BATCHES = 3;
const STEPS = 3;

/** g++ on a busy machine, twice. */
const BUILDS_MS = 600_000;

/** Losses and norms of all steps, and the file of the final weights. */
async function trained(values: object) {
  const output = mkdtempSync(join(scratch, "run-"));
  const config = parseConfig(JSON.stringify({ ...values, output_dir: output }), join(output, "config.yaml"));
  const compiled = await compileConfig(config);
  const silent = { report: () => {}, lines: new PassThrough().resume() };
  expect((await train(compiled, config, silent)).exitCode).toBe(0);
  const lines = readFileSync(join(output, "metrics.jsonl"), "utf8").trim().split("\n");
  return {
    numbers: lines.map((line) => JSON.parse(line)).map(({ loss, grad_norm }) => [loss, grad_norm]),
    weights: readFileSync(join(output, "final/model.safetensors")).toString("base64"),
    hostBytes: compiled.plan?.hostBytes,
  };
}

test.each([
  ["attention", { sequence: 1 }, "fp32"],
  ["layer", { sequence: 2 }, "bf16"],
])(
  "%s, ranks %j, %s, micro batches in a loop",
  async (policy, parallel, precision) => {
    const count = SEQUENCE * MICRO_BATCHES * STEPS;
    const tokens = Array.from({ length: count }, (_, i) => (i * i + 3 * i) % 61);
    const values = {
      ...{
        model: smallModel({ num_hidden_layers: 4 }),
        data: writeTokens(scratch, tokens),
        parallel,
        precision,
      },
      ...{ sequence_length: SEQUENCE, gradient_accumulation_steps: MICRO_BATCHES, threads: 1 },
      ...{ max_steps: STEPS, learning_rate: 1e-2 },
    };
    const memory = { activation_checkpointing: policy, tiled_loss: 2 };
    const stayed = await trained({ ...values, memory: { ...memory, activation_offload: "off" } });
    const away = { ...memory, activation_offload: "host" };
    const went = await trained({ ...values, memory: away });
    expect(stayed.numbers).toHaveLength(STEPS);
    expect(stayed.hostBytes).toBe(0);
    expect(went.hostBytes).toBeGreaterThan(0);
    expect({ ...went, hostBytes: 0 }).toEqual(stayed);
  },
  BUILDS_MS,
);

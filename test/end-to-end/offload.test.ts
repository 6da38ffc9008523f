/** @file Training with checkpoints in host memory, in a file, of few layers only, or with AdamW's moments in host memory has the same bits as without. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { afterAll, expect, test } from "vitest";
import { compileConfig } from "../../src/compile.ts";
import { parseConfig } from "../../src/config/load.ts";
import { aligned, type Plan } from "../../src/ir/plan.ts";
import { train } from "../../src/launch/train.ts";
import { smallModel, writeTokens } from "../support/one-step.ts";

const scratch = mkdtempSync(join(tmpdir(), "ithaca-offload-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const SEQUENCE = 96;
const MICRO_BATCHES = 3;
const STEPS = 3;

/** g++ on a busy machine, twice. */
const BUILDS_MS = 600_000;

/** Losses and norms of all steps, and the file of the final weights. `hostLimit` may be less than a configuration can say. */
async function trained(values: object, hostLimit: number | null = null) {
  const output = mkdtempSync(join(scratch, "run-"));
  const text = JSON.stringify({ ...values, output_dir: output });
  const { memory, ...rest } = parseConfig(text, join(output, "config.yaml"));
  const config = { ...rest, memory: { ...memory, host_limit: hostLimit } };
  const compiled = await compileConfig(config);
  const silent = { report: () => {}, lines: new PassThrough().resume() };
  expect((await train(compiled, config, silent)).exitCode).toBe(0);
  const lines = readFileSync(join(output, "metrics.jsonl"), "utf8").trim().split("\n");
  return {
    numbers: lines.map((line) => JSON.parse(line)).map(({ loss, grad_norm }) => [loss, grad_norm]),
    weights: readFileSync(join(output, "final/model.safetensors")).toString("base64"),
    arenas: { host: compiled.plan?.hostBytes ?? 0, file: compiled.plan?.fileBytes ?? 0 },
    measured: JSON.parse(lines[0]) as { host_peak_bytes: number; file_peak_bytes: number },
    plan: compiled.plan as Plan,
    output,
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
        model: smallModel({ num_hidden_layers: 6 }),
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
    const folder = join(scratch, `spill-${policy}`);
    mkdirSync(folder);
    const limit = 0.6 * went.arenas.host;
    const further = await trained({ ...values, memory: { ...away, host_spill: folder } }, limit);
    // Of six layers the first and the fifth.
    const fewer = await trained({ ...values, memory: { ...away, checkpoint_every: 4 } });
    expect(stayed.numbers).toHaveLength(STEPS);
    expect(stayed.arenas).toEqual({ host: 0, file: 0 });
    expect(went.arenas).toMatchObject({ host: expect.closeTo(limit / 0.6), file: 0 });
    expect(further.arenas.host).toBeLessThanOrEqual(limit);
    expect(further.arenas.file).toBeGreaterThan(0);
    expect(fewer.arenas.host).toBeLessThan(0.5 * went.arenas.host);
    for (const { numbers, weights } of [went, further, fewer])
      expect({ numbers, weights }).toEqual({ numbers: stayed.numbers, weights: stayed.weights });
    for (const { arenas, measured } of [stayed, went, further, fewer])
      expect({ host: measured.host_peak_bytes, file: measured.file_peak_bytes }).toEqual(arenas);
    expect(readdirSync(folder)).toEqual([]);
  },
  BUILDS_MS,
);

test.each([
  ["fp32", { sequence: 1 }, 1, 1],
  ["bf16", { sequence: 2, data: 2 }, MICRO_BATCHES, 0],
])(
  "moments in %s, ranks %j, %i micro batches, norm %d, from a snapshot too",
  async (precision, parallel, micro_batches, max_grad_norm) => {
    const count = SEQUENCE * MICRO_BATCHES * STEPS * 2;
    const tokens = Array.from({ length: count }, (_, i) => (i * i + 3 * i) % 61);
    const values = {
      ...{ model: smallModel({ num_hidden_layers: 4 }), data: writeTokens(scratch, tokens) },
      ...{ parallel, precision, sequence_length: SEQUENCE, gradient_accumulation_steps: micro_batches },
      ...{ threads: 1, max_steps: STEPS, learning_rate: 1e-2, snapshot_every: 2 },
      ...{ max_grad_norm: max_grad_norm || null },
    };
    const stayed = await trained(values);
    const away = { ...values, memory: { optimizer_offload: "host" } };
    const went = await trained(away);
    expect(went.numbers).toEqual(stayed.numbers);
    expect(went.weights).toBe(stayed.weights);
    const moments = stayed.plan.buffers.filter(({ kind }) => kind === "optimizer");
    const bytes = moments.map((buffer) => aligned(buffer.bytes));
    const total = bytes.reduce((sum, own) => sum + own, 0);
    expect(went.arenas.host).toBe(total);
    // On the device are those of two parameters at a time.
    const twoPairs = 4 * Math.max(...bytes);
    expect(stayed.plan.deviceBytes - went.plan.deviceBytes).toBeGreaterThanOrEqual(total - twoPairs);
    expect(total).toBeGreaterThan(2 * twoPairs);

    const resumed = await trained({ ...away, resume: join(went.output, "snapshots/step-2") });
    expect(resumed.numbers).toEqual(went.numbers.slice(2));
    expect(resumed.weights).toBe(went.weights);
  },
  BUILDS_MS,
);

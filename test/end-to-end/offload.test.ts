/** @file A step whose checkpoints waited in host memory has the same bits as one whose checkpoints stayed. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { oneStep, smallModel, writeTokens } from "../support/one-step.ts";

const scratch = mkdtempSync(join(tmpdir(), "ithaca-offload-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const SEQUENCE = 96;
const MICRO_BATCHES = 3;

/** g++ on a busy machine, three times. */
const BUILDS_MS = 600_000;

test.each([
  ["attention", { sequence: 1 }],
  ["layer", { sequence: 2 }],
])(
  "%s, ranks %j, micro batches in a loop",
  async (policy, parallel) => {
    const tokens = Array.from({ length: SEQUENCE * MICRO_BATCHES }, (_, i) => (i * i + 3 * i) % 61);
    const values = {
      model: smallModel({ num_hidden_layers: 4 }),
      data: writeTokens(scratch, tokens),
      sequence_length: SEQUENCE,
      gradient_accumulation_steps: MICRO_BATCHES,
      parallel,
    };
    const step = (memory: object) =>
      oneStep({ ...values, memory: { activation_checkpointing: policy, tiled_loss: 2, ...memory } });
    const stayed = await step({ activation_offload: "off" });
    expect(stayed.loss).toBeGreaterThan(1);
    expect(await step({ activation_offload: "host" })).toEqual(stayed);
  },
  BUILDS_MS,
);

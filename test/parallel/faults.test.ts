/** @file The faults that sequence parallelism is known for elsewhere: each as a run that would show it. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { distance, type OneStep, oneStep, smallModel, writeTokens } from "../support/one-step.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "ithaca-faults-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** Rounding of f32, in another order of summation. */
const close = 1e-5;

const patient = { timeout: 180_000 };

/** `count` tokens without a pattern. */
function tokens(count: number): number[] {
  return Array.from({ length: count }, (_, i) =>
    Math.floor((Math.abs(Math.sin(i * 12.9898 + 4) * 43758.5453) % 1) * 61),
  );
}

function expectEqual(own: OneStep, expected: OneStep): void {
  const apart = distance(own, expected);
  expect(own.tokens).toBe(expected.tokens);
  expect(Number.isFinite(own.loss)).toBe(true);
  expect(apart.loss).toBeLessThan(close);
  expect(apart.gradNorm).toBeLessThan(close);
  expect(apart.gradient, apart.worst).toBeLessThan(close);
}

const base = { model: smallModel(), sequence_length: 24 };

test("gradients are not too large by sp where sp is smaller than the world", patient, async () => {
  const data = writeTokens(scratch, tokens(96));
  const alone = await oneStep({ ...base, data, micro_batch_size: 4 });
  expect(alone.gradNorm).toBeGreaterThan(0.1);
  const both = await oneStep({ ...base, data, micro_batch_size: 2, parallel: { sequence: 2, data: 2 } });
  expectEqual(both, alone);
  const more = await oneStep({ ...base, data, micro_batch_size: 1, parallel: { sequence: 3, data: 4 } });
  expectEqual(more, alone);
});

describe("ranks without a label give no NaN", () => {
  test("a rank of the sequence", patient, async () => {
    // One document of 12 tokens, and then documents of one: the second half of the sample has no label.
    const data = writeTokens(scratch, tokens(24), [0, ...Array.from({ length: 12 }, (_, i) => 12 + i)]);
    const alone = await oneStep({ ...base, data });
    expect(alone.tokens).toBe(11);
    expectEqual(await oneStep({ ...base, data, parallel: { sequence: 2 } }), alone);
  });

  test("a rank of the batch", patient, async () => {
    const data = writeTokens(scratch, tokens(48), [0, ...Array.from({ length: 24 }, (_, i) => 24 + i)]);
    const alone = await oneStep({ ...base, data, micro_batch_size: 2 });
    expect(alone.tokens).toBe(23);
    expectEqual(await oneStep({ ...base, data, parallel: { data: 2, sequence: 2 } }), alone);
  });
});

test("a batch without any label is refused before the first step, with what to do", patient, () => {
  const data = writeTokens(scratch, tokens(72), [0, ...Array.from({ length: 24 }, (_, i) => 24 + i), 48]);
  const output = join(scratch, "no-label");
  const file = join(scratch, "no-label.yaml");
  const values = {
    ...base,
    data,
    output_dir: output,
    max_steps: 3,
    learning_rate: 1e-3,
    parallel: { sequence: 2 },
  };
  writeFileSync(file, JSON.stringify(values));
  const args = ["--import", "tsx", join(root, "src/cli/main.ts"), "train", file];
  const { status, stderr } = spawnSync(process.execPath, args, { cwd: root, encoding: "utf8" });
  expect(status, stderr).toBe(1);
  expect(stderr).toContain(
    `step 2 has nothing to learn from: sample 1 has no labelled token. From token 24 of ${data} every document is one token long`,
  );
  expect(stderr).toContain("join documents, or take more samples a step");
  // Half of what is learnt from each step comes from a sample with labels then.
  const accumulated = { ...base, data, max_steps: 1, gradient_accumulation_steps: 2 };
  return oneStep(accumulated).then(({ tokens }) => expect(tokens).toBe(23));
});

test("attention stays within packed documents, also where one lies on several ranks", patient, async () => {
  // Documents of 8 tokens, which are samples of their own when 8 tokens make a sample.
  const apart = writeTokens(scratch, tokens(24));
  const packed = writeTokens(scratch, tokens(24), [0, 8, 16]);
  const alone = await oneStep({ ...base, data: apart, sequence_length: 8, micro_batch_size: 3 });
  expect(alone.tokens).toBe(21);
  for (const sequence of [2, 4])
    expectEqual(await oneStep({ ...base, data: packed, parallel: { sequence } }), alone);
  // Without the boundaries it is another loss: the comparison would see them lost.
  const mixed = await oneStep({ ...base, data: apart, parallel: { sequence: 2 } });
  expect(Math.abs(mixed.loss - alone.loss)).toBeGreaterThan(1e-3);
});

test("a sliding window is kept", patient, async () => {
  const data = writeTokens(scratch, tokens(24));
  const window = { model: smallModel({ sliding_window: 5 }), sequence_length: 24, data };
  const alone = await oneStep(window);
  for (const sequence of [2, 4]) expectEqual(await oneStep({ ...window, parallel: { sequence } }), alone);
  const whole = await oneStep({ ...base, data, parallel: { sequence: 2 } });
  expect(distance(whole, alone).gradient).toBeGreaterThan(1e-2);
});

test(
  "a sequence that does not divide by its ranks loses no token and counts no padding",
  patient,
  async () => {
    const data = writeTokens(scratch, tokens(23));
    const odd = { ...base, data, sequence_length: 23 };
    const alone = await oneStep(odd);
    expect(alone.tokens).toBe(22);
    for (const sequence of [2, 3, 4]) expectEqual(await oneStep({ ...odd, parallel: { sequence } }), alone);
  },
);

test(
  "labels are shifted before the sequence is shared out: each rank's last token has one",
  patient,
  async () => {
    const data = writeTokens(scratch, tokens(24));
    const shared = await oneStep({ ...base, data, parallel: { sequence: 4 } });
    expect(shared.tokens).toBe(23);
    expectEqual(shared, await oneStep({ ...base, data }));
  },
);

test(
  "the loss does not change with accumulation where micro batches differ in their labels",
  patient,
  async () => {
    // Four samples with 23, 12, 5 and 0 labels.
    const ones = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);
    const data = writeTokens(scratch, tokens(96), [
      0,
      24,
      ...ones(37, 48),
      48,
      ...ones(54, 72),
      ...ones(72, 96),
    ]);
    const once = await oneStep({ ...base, data, micro_batch_size: 4 });
    expect(once.tokens).toBe(23 + 12 + 5);
    for (const accumulation of [2, 4]) {
      const values = {
        ...base,
        data,
        micro_batch_size: 4 / accumulation,
        gradient_accumulation_steps: accumulation,
      };
      expectEqual(await oneStep(values), once);
      expectEqual(await oneStep({ ...values, parallel: { sequence: 2 } }), once);
    }
  },
);

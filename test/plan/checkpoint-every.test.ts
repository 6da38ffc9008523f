/** @file Checkpoints every k layers in plans: what they save, what they compute again, and when the compiler chooses them. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { compileConfig, type Planned, planConfig } from "../../src/compile.ts";
import { parseConfig } from "../../src/config/load.ts";
import { reasonsOf } from "../../src/explain.ts";
import { forecast } from "../../src/forecast.ts";
import type { Plan } from "../../src/ir/plan.ts";
import { writeLlama } from "./model.ts";

const scratch = mkdtempSync(join(tmpdir(), "ithaca-every-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const LAYERS = 10;
const SEQUENCE = 4096;
const HIDDEN = 64;
/** A layer's input in f32. */
const INPUT_BYTES = 4 * SEQUENCE * HIDDEN;
/** And attention's output with its log-sum-exp of four heads. */
const ATTENTION_BYTES = 2 * INPUT_BYTES + 4 * SEQUENCE * 4;
/** Products of a layer. */
const FORWARD = 7;

writeLlama(join(scratch, "model"), { hidden_size: HIDDEN, num_hidden_layers: LAYERS });
writeFileSync(join(scratch, "tokens.bin"), Buffer.alloc(4 * SEQUENCE));

function configOf(memory: object, more: object = {}) {
  const values = {
    ...{ model: join(scratch, "model"), data: join(scratch, "tokens.bin"), output_dir: join(scratch, "run") },
    ...{ sequence_length: SEQUENCE, max_steps: 1, learning_rate: 1e-3, threads: 1, memory, ...more },
  };
  return parseConfig(JSON.stringify(values), join(scratch, "config.yaml"));
}

type Trial = Planned["trials"][number];

async function plannedFor(memory: object, more: object = {}): Promise<{ last: Trial; plan: Plan }> {
  const { trials, plan } = await planConfig(configOf(memory, more), { effort: "place" });
  return { last: trials.at(-1) as Trial, plan: plan as Plan };
}

const refusal = async (memory: object): Promise<string> => {
  const error = await compileConfig(configOf(memory)).then(
    () => new Error("accepted"),
    (reason: Error & { remedy?: string }) => reason,
  );
  return `${error.message} | ${(error as { remedy?: string }).remedy}`;
};

const times = (plan: Plan, op: RegExp): number => plan.steps.filter(({ node }) => op.test(node.op)).length;

const WHOLE = { tiled_loss: "off", tiled_mlp: "off", tiled_projections: "off", head_groups: "off" };
const LAYER = { ...WHOLE, activation_checkpointing: "layer", activation_offload: "off" };
const AWAY = { ...LAYER, activation_offload: "host" };

describe("the input of every k-th layer", () => {
  test("is chosen as soon as it is enough", async () => {
    const { plan } = await plannedFor({ ...LAYER, checkpoint_every: 2 });
    const { last } = await plannedFor({ ...LAYER, device_limit: plan.deviceBytes });
    expect(last).toMatchObject({ checkpointEvery: 2, excess: null });
  });

  test.each([2, 3, 4, 10, 99])("is all that waits in host memory, k = %i", async (every) => {
    const groups = Math.ceil(LAYERS / every);
    const { last, plan } = await plannedFor({ ...AWAY, checkpoint_every: every });
    expect(last.hostBytes).toBe((groups - 1) * INPUT_BYTES);
    const one = await plannedFor({ ...AWAY, checkpoint_every: 1 });
    // All layers but the last of each group run forward once more.
    expect(times(plan, /^matmul/) - times(one.plan, /^matmul/)).toBe(FORWARD * (LAYERS - groups));
  });

  test("and those of one group are all that is on the device", async () => {
    const { plan } = await plannedFor({ ...LAYER, checkpoint_every: 4 });
    const inputs = plan.buffers.filter(
      ({ bytes, persistent, first, last }) => bytes === INPUT_BYTES && !persistent && last - first > 40,
    );
    for (let step = 0; step < plan.steps.length; step++) {
      const alive = inputs.filter(({ first, last }) => first <= step && step <= last);
      // Three of groups, three more of the group at work, and what the layer at work holds for long.
      expect(alive.length).toBeLessThanOrEqual(3 + 3 + 3);
    }
    const one = await plannedFor({ ...LAYER, checkpoint_every: 1 });
    expect(
      one.last.deviceBytes - (await plannedFor({ ...LAYER, checkpoint_every: 3 })).last.deviceBytes,
    ).toBeGreaterThanOrEqual(3 * INPUT_BYTES);
  });

  test("is joined by attention's output within a group, so that attention runs twice", async () => {
    const attention = { ...AWAY, activation_checkpointing: "attention" };
    const { last, plan } = await plannedFor({ ...attention, checkpoint_every: 4 });
    expect(last.hostBytes).toBe(2 * INPUT_BYTES);
    expect(times(plan, /^attention$/)).toBe(2 * LAYERS);
    const one = await plannedFor({ ...attention, checkpoint_every: 1 });
    expect(one.last.hostBytes).toBe((LAYERS - 1) * ATTENTION_BYTES);
    expect(times(one.plan, /^attention$/)).toBe(LAYERS);
    const layer = await plannedFor({ ...AWAY, checkpoint_every: 4 });
    expect(times(layer.plan, /^attention$/)).toBe(3 * LAYERS - 3);
  });
});

describe("the compiler", () => {
  test("keeps every layer's input where that fits", async () => {
    const { last } = await plannedFor({ ...AWAY, host_limit: (LAYERS - 1) * INPUT_BYTES });
    expect(last).toMatchObject({ checkpointEvery: 1, excess: null });
  });

  test.each([
    [8, 2],
    [4, 2],
    [3, 3],
    [2, 4],
    [1, 5],
  ])("takes the least k where host memory has room for %i inputs only: %i", async (room, every) => {
    const { last } = await plannedFor({ ...AWAY, host_limit: room * INPUT_BYTES });
    expect(last).toMatchObject({ checkpointEvery: every, excess: null });
    expect(last.hostBytes).toBeLessThanOrEqual(room * INPUT_BYTES);
  });

  test("takes it where the device is short and nothing may leave it", async () => {
    const { last: one } = await plannedFor({ ...LAYER, checkpoint_every: 1 });
    const { last } = await plannedFor({ ...LAYER, device_limit: one.deviceBytes - 2 * INPUT_BYTES });
    expect(last.excess).toBeNull();
    expect(last.checkpointEvery).toBeGreaterThan(1);
    expect(last.seconds).toBeGreaterThan(one.seconds);
  });

  test("takes it where device and host are both short", async () => {
    const { last: one } = await plannedFor({ ...LAYER, checkpoint_every: 1 });
    const limits = { device_limit: one.deviceBytes - 3 * INPUT_BYTES, host_limit: INPUT_BYTES };
    const auto = { ...WHOLE, activation_checkpointing: "layer" };
    const { last } = await plannedFor({ ...auto, ...limits });
    expect(last.excess).toBeNull();
    expect(last.checkpointEvery).toBeGreaterThan(1);
    expect(last.hostBytes).toBeLessThanOrEqual(INPUT_BYTES);
  });

  test("uses the file before it computes more again", async () => {
    const { last } = await plannedFor({ ...AWAY, host_limit: 2 * INPUT_BYTES, host_spill: scratch });
    expect(last).toMatchObject({ checkpointEvery: 1, excess: null });
    expect(last.fileBytes).toBeGreaterThan(0);
  });

  test("says so with --explain", async () => {
    const config = configOf({ ...AWAY, host_limit: 2 * INPUT_BYTES });
    const texts = reasonsOf(config, await forecast(config, null)).map(({ why }) => why);
    expect(texts.join("\n")).toMatch(
      /only the inputs of every 4 layers' first wait, those between are computed again group by group; checkpoints of all layers in host memory: .* 2\.0 MiB of host memory, fits/,
    );
  });

  test("is told what is missing where no k is enough, and what would help where k was given", async () => {
    const short = { ...AWAY, activation_checkpointing: "attention", checkpoint_every: 2, host_limit: "2MiB" };
    expect(await refusal(short)).toMatch(
      /^a step needs 4.0 MiB of host memory, 2.0 MiB more than memory.host_limit \(2.0 MiB\) \| .* set memory.checkpoint_every: auto/,
    );
    const { last: one } = await plannedFor({ ...LAYER, checkpoint_every: 1 });
    const message = await refusal({ ...LAYER, device_limit: one.deviceBytes - 9 * INPUT_BYTES });
    expect(message).toMatch(/^a step needs \S+ MiB of device memory, 9.0 MiB more than memory.device_limit/);
    expect(message).not.toMatch(/checkpoint_every/);
  });

  test("is told what is missing where the pass that offloads is turned off", async () => {
    const passes = [{ pass: "offload", enabled: false }];
    const { last } = await plannedFor({ ...WHOLE, device_limit: "1MiB", host_limit: "1MiB" }, { passes });
    expect(last.excess).toMatch(
      /^a step needs \S+ MiB of device memory, \S+ MiB more than memory.device_limit/,
    );
  });

  test("refuses k where nothing is computed again", async () => {
    expect(await refusal({ activation_checkpointing: "off", checkpoint_every: 4 })).toBe(
      "memory.checkpoint_every: 4 keeps the input of one layer in 4, and with memory.activation_checkpointing: off every layer keeps everything | Set memory.activation_checkpointing to layer, attention or auto, or checkpoint_every to auto.",
    );
  });

  test("chooses a policy with checkpoints where k is given and nothing else", async () => {
    const { last } = await plannedFor({ ...WHOLE, checkpoint_every: 5 });
    expect(last).toMatchObject({ checkpointing: "attention", checkpointEvery: 5 });
  });
});

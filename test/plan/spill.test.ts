/** @file The file as third memory in plans: what it takes from the host, when copies go, and how many layers the compiler chooses. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { compileConfig, type Planned, planConfig } from "../../src/compile.ts";
import { parseConfig } from "../../src/config/load.ts";
import type { Plan, Step } from "../../src/ir/plan.ts";
import { spillableBytes } from "../../src/passes/spill.ts";
import { writeLlama } from "./model.ts";

const scratch = mkdtempSync(join(tmpdir(), "ithaca-spill-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const SEQUENCE = 4096;
const HIDDEN = 64;
/** A layer's input in f32, and attention's output with its log-sum-exp of four heads beside it. */
const INPUT_BYTES = 4 * SEQUENCE * HIDDEN;
const ATTENTION_BYTES = 2 * INPUT_BYTES + 4 * SEQUENCE * 4;

writeFileSync(join(scratch, "tokens.bin"), Buffer.alloc(4 * 4096));

const modelOf = (layers: number): string =>
  writeLlama(join(scratch, `model-${layers}`), { hidden_size: HIDDEN, num_hidden_layers: layers });

const LAYERS = 8;
/** Every layer's input is kept, so that only the file can help. */
const KEPT = { activation_checkpointing: "layer", activation_offload: "host", checkpoint_every: 1 };
const SPILL = { ...KEPT, host_spill: scratch };

function configOf(memory: object, layers = LAYERS, more: object = {}) {
  const values = {
    ...{ model: modelOf(layers), data: join(scratch, "tokens.bin"), output_dir: join(scratch, "run") },
    ...{ sequence_length: SEQUENCE, max_steps: 1, learning_rate: 1e-3, max_grad_norm: null, threads: 1 },
    ...{ memory, ...more },
  };
  return parseConfig(JSON.stringify(values), join(scratch, "config.yaml"));
}

type Trial = Planned["trials"][number];

async function plannedFor(
  ...args: Parameters<typeof configOf>
): Promise<Planned & { last: Trial; plan: Plan }> {
  const planned = await planConfig(configOf(...args));
  return { ...planned, last: planned.trials.at(-1) as Trial, plan: planned.plan as Plan };
}

const refusal = async (memory: object): Promise<string> => {
  const error = await compileConfig(configOf(memory)).then(
    () => new Error("accepted"),
    (reason: Error & { remedy?: string }) => reason,
  );
  return `${error.message} | ${(error as { remedy?: string }).remedy}`;
};

describe("what is in the file", () => {
  test.each([
    ["layer", INPUT_BYTES],
    ["attention", ATTENTION_BYTES],
  ] as const)(
    "with the policy %s leaves the host two layers', however many there are",
    async (policy, each) => {
      const least = async (layers: number) => {
        const memory = { ...SPILL, activation_checkpointing: policy, host_limit: "1MiB" };
        const { stages, last } = await plannedFor(memory, layers);
        const at = stages.findIndex(({ pass }) => pass === "spill");
        expect(spillableBytes(stages[at - 1].graph)).toEqual(new Array(layers - 2).fill(each));
        expect(last).toMatchObject({ spillLayers: layers - 2, fileBytes: (layers - 2) * each });
        return last.hostBytes;
      };
      expect(await least(8)).toBe(2 * each);
      expect(await least(12)).toBe(2 * each);
    },
  );

  test("goes while a layer runs, and is on its way back while two do", async () => {
    const { plan, last } = await plannedFor({ ...SPILL, host_limit: 2 * INPUT_BYTES });
    const { steps, buffers } = plan;
    const products = (from: number, to: number) =>
      steps.slice(from, to).filter(({ node }) => node.op.startsWith("matmul")).length;
    const readerOf = ({ index, outputs }: Step) =>
      steps.find(
        ({ inputs }, at) => at > index && inputs.some(({ buffer }) => buffer === outputs[0].buffer),
      ) as Step;
    const fetches = steps.filter(({ lane }) => lane === "from_file");
    expect(fetches).toHaveLength(last.spillLayers);
    expect(fetches.length).toBeGreaterThan(3);
    for (const fetch of fetches) {
      const reload = readerOf(fetch);
      expect(reload.lane).toBe("to_device");
      // Of a layer seven products forward and fourteen backward.
      expect(products(fetch.index, reload.index)).toBeGreaterThanOrEqual(20);
      expect(products(reload.index, readerOf(reload).index)).toBeGreaterThanOrEqual(20);
    }
    for (const { inputs, index } of steps.filter(({ lane }) => lane === "to_file").slice(0, -1)) {
      expect(products(index, buffers[inputs[0].buffer].last)).toBeGreaterThanOrEqual(7);
    }
  });

  test("goes in every turn of a loop over micro batches", async () => {
    const { plan, last } = await plannedFor({ ...SPILL, host_limit: 2 * INPUT_BYTES }, LAYERS, {
      gradient_accumulation_steps: 3,
    });
    expect(last).toMatchObject({ excess: null, fileBytes: last.spillLayers * INPUT_BYTES });
    const copies = plan.steps.filter(({ lane }) => lane === "to_file" || lane === "from_file");
    expect(copies).toHaveLength(2 * last.spillLayers);
    for (const { loops } of copies) expect(loops).toHaveLength(1);
  });
});

describe("the compiler", () => {
  test("sends to the file what the host's limit demands, and no more", async () => {
    const { last: all } = await plannedFor(SPILL);
    expect(all).toMatchObject({ spillLayers: 0, hostBytes: (LAYERS - 1) * INPUT_BYTES, fileBytes: 0 });
    const spilled: number[] = [];
    for (let less = 1; less <= LAYERS - 4; less++) {
      const limit = all.hostBytes - less * INPUT_BYTES;
      const { last } = await plannedFor({ ...SPILL, host_limit: limit });
      expect(last.excess).toBeNull();
      expect(last.hostBytes).toBeLessThanOrEqual(limit);
      expect(last.fileBytes).toBe(last.spillLayers * INPUT_BYTES);
      // Two are in host memory all the same, on their way.
      expect(last.spillLayers).toBeLessThanOrEqual(less + 2);
      spilled.push(last.spillLayers);
    }
    expect(spilled).toEqual([...spilled].sort((a, b) => a - b));
  });

  test("uses host memory and file as far as the device's limit demands", async () => {
    const whole = { tiled_loss: "off", tiled_mlp: "off", tiled_projections: "off", head_groups: "off" };
    const layer = { activation_checkpointing: "layer", ...whole };
    const stay = await plannedFor({ ...layer, activation_offload: "off" });
    const limits = { device_limit: stay.last.deviceBytes - 4 * INPUT_BYTES, host_limit: 3 * INPUT_BYTES };
    const { last } = await plannedFor({ ...layer, ...limits, host_spill: scratch });
    expect(last.excess).toBeNull();
    expect(last.spillLayers).toBeGreaterThan(0);
    expect(last.offloadLayers).toBeGreaterThan(last.spillLayers);
    expect(last.offloadLayers).toBeLessThan(LAYERS);
  });

  test("keeps attention's output in the file where computing it again would take longer than the file", async () => {
    const memory = { activation_offload: "host", host_limit: 4 * ATTENTION_BYTES };
    // Copies of a file hide behind products: only where those are few is attention computed again.
    const { last } = await plannedFor({ ...memory, host_spill: scratch });
    expect(last).toMatchObject({ checkpointing: "attention", excess: null });
    expect(last.spillLayers).toBeGreaterThan(0);
    const without = await plannedFor(memory);
    expect(without.last).toMatchObject({ checkpointing: "layer", spillLayers: 0 });
  });

  test("uses the file also where the device has too little, so that only that is missing", async () => {
    const { last } = await plannedFor({ ...SPILL, device_limit: "1MiB", host_limit: 3 * INPUT_BYTES });
    expect(last.hostBytes).toBeLessThanOrEqual(3 * INPUT_BYTES);
    expect(last.excess).toMatch(
      /^a step needs \S+ MiB of device memory, \S+ MiB more than memory.device_limit \(1.0 MiB\)$/,
    );
  });

  test("says that a file would help where host memory is short, and what is missing where it has one", async () => {
    const memory = { ...KEPT, host_limit: "1MiB" };
    expect(await refusal({ ...KEPT, host_limit: "3MiB" })).toMatch(
      /^a step needs 7.0 MiB of host memory, 4.0 MiB more than memory.host_limit \(3.0 MiB\) \| .* set memory.host_spill to a folder on a fast disk \(3.0 MiB of host memory\)/,
    );
    // A file alone would not do.
    const short = await refusal(memory);
    expect(short).toMatch(
      /^a step needs 7.0 MiB of host memory, 6.0 MiB more than memory.host_limit \(1.0 MiB\)/,
    );
    expect(short).not.toMatch(/host_spill/);
    const message = await refusal({ ...memory, host_spill: scratch });
    expect(message).toMatch(/^a step needs 2.0 MiB of host memory, 1.0 MiB more than memory.host_limit/);
    expect(message).not.toMatch(/host_spill/);
  });

  test.each([
    [
      { activation_offload: "off" },
      "memory.host_spill takes what is offloaded to host memory, and with memory.activation_offload: off nothing is | Set memory.activation_offload to auto or host, or leave memory.host_spill out.",
    ],
    [
      { activation_checkpointing: "off" },
      "memory.host_spill takes what is offloaded to host memory, and with memory.activation_checkpointing: off nothing is | Set memory.activation_checkpointing to auto, layer or attention, or leave memory.host_spill out.",
    ],
  ])("refuses a file for nothing: %j", async (memory, message) => {
    expect(await refusal({ host_spill: scratch, ...memory })).toBe(message);
  });
});

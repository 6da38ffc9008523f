/** @file Offload in plans: what it takes from the device and gives to the host, and how many layers the compiler chooses. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { compileConfig, type Planned, planConfig } from "../../src/compile.ts";
import { parseConfig } from "../../src/config/load.ts";
import { aligned, isAlive, type Plan, type Step } from "../../src/ir/plan.ts";
import { offloadableBytes } from "../../src/passes/offload.ts";
import { writeLlama } from "./model.ts";

const scratch = mkdtempSync(join(tmpdir(), "ithaca-offload-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const LAYERS = 6;
const SEQUENCE = 512;
const HIDDEN = 64;
/** A layer's input in f32. */
const INPUT_BYTES = 4 * SEQUENCE * HIDDEN;
/** And attention's output and its log-sum-exp of four heads. */
const ATTENTION_BYTES = 2 * INPUT_BYTES + 4 * SEQUENCE * 4;

writeLlama(join(scratch, "model"), { hidden_size: HIDDEN, num_hidden_layers: LAYERS });
writeFileSync(join(scratch, "tokens.bin"), Buffer.alloc(4 * 4096));

function configOf(memory: object, more: object = {}) {
  const values = {
    ...{ model: join(scratch, "model"), data: join(scratch, "tokens.bin"), output_dir: join(scratch, "run") },
    ...{ sequence_length: SEQUENCE, max_steps: 1, learning_rate: 1e-3, max_grad_norm: null, threads: 1 },
    ...{ memory, ...more },
  };
  return parseConfig(JSON.stringify(values), join(scratch, "config.yaml"));
}

async function plannedFor(
  memory: object,
  more: object = {},
): Promise<Planned & { deviceBytes: number; hostBytes: number }> {
  const planned = await planConfig(configOf(memory, more));
  const { deviceBytes, hostBytes } = planned.trials.at(-1) as Planned["trials"][number];
  return { ...planned, deviceBytes, hostBytes };
}

const refusal = async (memory: object): Promise<string> => {
  const error = await compileConfig(configOf(memory)).then(
    () => new Error("accepted"),
    (reason: Error & { remedy?: string }) => reason,
  );
  return `${error.message} | ${(error as { remedy?: string }).remedy}`;
};

describe("what layers keep", () => {
  test.each([
    ["layer", INPUT_BYTES],
    ["attention", ATTENTION_BYTES],
  ] as const)("with the policy %s goes to the host, but for the last layer's", async (policy, each) => {
    const { stages, hostBytes } = await plannedFor({
      activation_checkpointing: policy,
      activation_offload: "host",
    });
    const at = stages.findIndex(({ pass }) => pass === "offload");
    expect(offloadableBytes(stages[at - 1].graph)).toEqual(new Array(LAYERS - 1).fill(each));
    expect(hostBytes).toBe((LAYERS - 1) * each);
  });

  test("is on the device for two layers at most at a time, however many there are", async () => {
    const { plan } = await plannedFor({ activation_checkpointing: "layer", activation_offload: "host" });
    const copied = new Set(
      plan?.steps.flatMap(({ lane, inputs, outputs }) =>
        lane === "to_host" ? inputs[0].buffer : lane === "to_device" ? outputs[0].buffer : [],
      ),
    );
    const lives = [...copied].map((at) => plan?.buffers[at] as { first: number; last: number });
    expect(lives.length).toBeGreaterThanOrEqual(LAYERS);
    for (let step = 0; step < (plan?.steps.length ?? 0); step++) {
      // The layer that runs reads one, writes one, and one is on its way.
      expect(lives.filter(({ first, last }) => first <= step && step <= last).length).toBeLessThanOrEqual(3);
    }
  });

  test("comes back while the layer before runs, and goes out while the next one does", async () => {
    const { plan } = await plannedFor({ activation_checkpointing: "layer", activation_offload: "host" });
    const steps = plan?.steps as readonly Step[];
    const products = (from: number, to: number) =>
      steps.slice(from, to).filter(({ node }) => node.op.startsWith("matmul")).length;
    for (const step of steps.filter(({ lane }) => lane === "to_device")) {
      const reader = steps.find(
        ({ inputs }, at) => at > step.index && inputs.some(({ buffer }) => buffer === step.outputs[0].buffer),
      );
      // Seven products forward and fourteen backward, of a layer.
      expect(products(step.index, reader?.index as number)).toBeGreaterThanOrEqual(20);
    }
    for (const step of steps.filter(({ lane }) => lane === "to_host")) {
      const stopped = steps.find(({ waits, lane }) => lane === "compute" && waits.includes(step.index));
      expect(products(step.index, stopped?.index ?? steps.length)).toBeGreaterThanOrEqual(3);
    }
  });
});

test("each further layer that goes takes its bytes from the device's peak", async () => {
  const stay = await plannedFor({ activation_checkpointing: "layer", activation_offload: "off" });
  const rows: [number, number][] = [];
  for (let less = 1; less < LAYERS - 1; less++) {
    const { trials } = await plannedFor({
      activation_checkpointing: "layer",
      device_limit: stay.deviceBytes - (less - 0.5) * INPUT_BYTES,
    });
    const { offloadLayers, deviceBytes, hostBytes } = trials.at(-1) as Planned["trials"][number];
    expect(hostBytes).toBe(offloadLayers * INPUT_BYTES);
    rows.push([stay.deviceBytes - deviceBytes, offloadLayers]);
  }
  rows.forEach(([saved, layers], i) => {
    expect(saved).toBeGreaterThanOrEqual((i + 0.5) * INPUT_BYTES);
    // One layer's bytes are on their way while another's are read.
    expect(layers * INPUT_BYTES - saved).toBeLessThanOrEqual(2 * INPUT_BYTES);
  });
  expect(rows.map(([, layers]) => layers)).toEqual(
    [...rows.map(([, layers]) => layers)].sort((a, b) => a - b),
  );
});

/** Nothing is computed in parts, so that what is left to decide is what to keep, and where. */
const WHOLE = { tiled_loss: "off", tiled_mlp: "off", tiled_projections: "off", head_groups: "off" };

const keepsAttention = ({ checkpointing, kept }: Planned["trials"][number]) =>
  checkpointing === "attention" || kept.some(({ op }) => op === "attention");

describe("the compiler", () => {
  test("keeps everything where there is room", async () => {
    const { trials } = await plannedFor({ device_limit: "1GiB" });
    expect(trials.map(({ checkpointing, offloadLayers }) => [checkpointing, offloadLayers])).toEqual([
      ["off", 0],
    ]);
  });

  test("sends to the host what the limit demands before it computes attention again", async () => {
    const kept = await plannedFor({ activation_checkpointing: "attention", ...WHOLE });
    const { trials } = await plannedFor({ device_limit: kept.deviceBytes - INPUT_BYTES, ...WHOLE });
    const last = trials.at(-1) as Planned["trials"][number];
    expect(last.excess).toBeNull();
    expect(keepsAttention(last)).toBe(true);
    expect(last.offloadLayers).toBeGreaterThan(0);
    expect(last.offloadLayers).toBeLessThan(LAYERS);
  });

  test("computes attention again where the host has no room for its output", async () => {
    const kept = await plannedFor({ activation_checkpointing: "attention", ...WHOLE });
    const limits = { device_limit: kept.deviceBytes - INPUT_BYTES, host_limit: "1MiB" };
    const { trials } = await plannedFor({ ...limits, ...WHOLE });
    const last = trials.at(-1) as Planned["trials"][number];
    expect([last.excess, keepsAttention(last)]).toEqual([null, true]);
    const least = await plannedFor({
      activation_checkpointing: "attention",
      activation_offload: "host",
      ...WHOLE,
    });
    const tight = await plannedFor({ device_limit: least.deviceBytes, host_limit: "1MiB", ...WHOLE });
    expect(tight.trials.at(-1)).toMatchObject({ checkpointing: "layer", excess: null });
  });

  test("uses the host only where it may", async () => {
    const kept = await plannedFor({ activation_checkpointing: "layer", ...WHOLE });
    const limit = {
      activation_checkpointing: "layer",
      checkpoint_every: 1,
      device_limit: kept.deviceBytes - INPUT_BYTES,
      ...WHOLE,
    };
    expect(await refusal({ ...limit, activation_offload: "off" })).toMatch(
      /^a step needs \S+ MiB of device memory, 128.0 KiB more than memory.device_limit .* set memory.activation_offload: auto/,
    );
  });

  test("offloads everything that is kept where it is told to, with micro batches in a loop too", async () => {
    const one = await plannedFor({ activation_offload: "host" });
    expect(one.trials).toMatchObject([
      { checkpointing: "attention", hostBytes: (LAYERS - 1) * ATTENTION_BYTES },
    ]);
    const { plan, hostBytes } = await plannedFor(
      { activation_offload: "host" },
      { gradient_accumulation_steps: 3 },
    );
    expect(hostBytes).toBe((LAYERS - 1) * ATTENTION_BYTES);
    const copies = plan?.steps.filter(({ lane }) => lane === "to_host" || lane === "to_device") ?? [];
    expect(copies).toHaveLength(2 * 3 * (LAYERS - 1));
    for (const { loops } of copies) expect(loops).toHaveLength(1);
  });

  test("refuses to offload where nothing is kept", async () => {
    expect(await refusal({ activation_checkpointing: "off", activation_offload: "host" })).toBe(
      "memory.activation_offload: host moves what checkpoints keep, and there are none | Set memory.activation_checkpointing to layer, attention or auto, or activation_offload to auto.",
    );
  });

  test("says how much of the host's memory is missing", async () => {
    const asked = { activation_checkpointing: "attention", checkpoint_every: 1 };
    const memory = { activation_offload: "host", host_limit: "1MiB", ...asked };
    expect(await refusal(memory)).toMatch(
      /^a step needs 1.3 MiB of host memory, \S+ KiB more than memory.host_limit \(1.0 MiB\) \| .* raise memory.host_limit/,
    );
  });
});

describe("the optimizer's moments", () => {
  test.each([null, 1])("come one by one while those before go, max_grad_norm %s", async (max_grad_norm) => {
    const { plan } = await plannedFor({ optimizer_offload: "host" }, { max_grad_norm });
    const { steps, buffers } = plan as Plan;
    const moments = buffers.filter(({ kind }) => kind === "optimizer");
    const most = Math.max(...moments.map(({ bytes }) => bytes));
    const onDevice = moments.filter(({ memory }) => memory === "device");
    expect(onDevice.length).toBeGreaterThan(0);
    expect(onDevice.every(({ persistent }) => !persistent)).toBe(true);
    for (const { index } of steps) {
      const alive = onDevice.filter((buffer) => isAlive(buffer, index)).map(({ bytes }) => aligned(bytes));
      expect(alive.length).toBeLessThanOrEqual(4);
      expect(alive.reduce((sum, own) => sum + own, 0)).toBeLessThanOrEqual(4 * aligned(most));
    }
    const updates = steps.filter(({ node }) => node.op === "adamw").map(({ index }) => index);
    const before = (index: number) => updates.filter((update) => update < index).length;
    for (const { index, lane, waits } of steps) {
      if (lane !== "to_device") continue;
      // What goes out of the parameter before is not waited for.
      const out = waits.filter((own) => steps[own].lane === "to_host").map(before);
      expect(out.every((own) => own < before(index))).toBe(true);
    }
  });
});

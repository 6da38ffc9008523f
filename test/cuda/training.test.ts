/** @file Whole training runs of the CUDA target on a simulated device: the CPU's numbers, in every order of the streams. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, test, vi } from "vitest";
import { smallModel } from "../support/one-step.ts";
import { expectClose, prepare, type Settings } from "../support/simulated-run.ts";

const scratch = mkdtempSync(join(tmpdir(), "ithaca-simulated-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
afterEach(() => vi.unstubAllEnvs());

/** Of six layers' inputs, 4,608 bytes each, host memory has room for three. */
const spilled = {
  model: smallModel({ num_hidden_layers: 6, vocab_size: 1003 }),
  memory: { activation_checkpointing: "layer", activation_offload: "host", host_spill: scratch },
  host_limit: 3 * 4608,
};
const offloads = { activation_offload: "host", optimizer_offload: "host" };
const everything = {
  parallel: { sequence: 2 },
  gradient_accumulation_steps: 2,
  memory: { tiled_loss: 3, activation_checkpointing: "layer", ...offloads },
};

/** g++ on a busy machine. */
const patient = { timeout: 600_000 };

describe("on a simulated device", patient, () => {
  test.each([
    ["fp32", { precision: "fp32" }, 1e-5],
    ["bf16", { precision: "bf16" }, 1e-3],
    ["a sequence shared by two ranks", { parallel: { sequence: 2 } }, 1e-5],
    ["samples of two replicas, each shared by two ranks", { parallel: { sequence: 2, data: 2 } }, 1e-5],
    ["tiles, recomputed layers and offload on a shared sequence", everything, 1e-5],
    ["checkpoints in a file", spilled, 1e-5],
    ["bf16 with all of these", { ...everything, precision: "bf16" }, 1e-3],
  ] as [string, Settings, number][])("%s: the CPU's losses and norms", async (_, settings, distance) => {
    const ours = await (await prepare(scratch, "cuda", settings)).run();
    const expected = await (await prepare(scratch, "cpu", settings)).run();
    expectClose(ours.losses, expected.losses, distance);
    expectClose(ours.norms, expected.norms, 10 * distance);
  });

  test.each([
    ["with all of these", everything],
    ["with checkpoints in a file", spilled],
  ] as [string, Settings][])(
    "%s, whatever order the streams run in, the bits are the same",
    async (_, settings) => {
      const program = await prepare(scratch, "cuda", settings);
      const { plan } = program.compiled;
      expect(plan?.steps.some(({ lane }) => lane === "from_file")).toBe(settings === spilled);
      vi.stubEnv("ITHACA_SIMULATED_ORDER", "issued");
      const expected = await program.run();
      for (const seed of [1, 2, 3, 4, 5]) {
        vi.stubEnv("ITHACA_SIMULATED_ORDER", String(seed));
        expect(await program.run()).toEqual(expected);
      }
    },
  );

  test.each([
    ["of recomputed layers", { memory: { activation_checkpointing: "layer" } }],
    ["with checkpoints in a file", spilled],
  ] as [string, Settings][])("a replayed graph %s gives the bits of issued steps", async (_, settings) => {
    const program = await prepare(scratch, "cuda", settings);
    vi.stubEnv("ITHACA_CUDA_GRAPH", "0");
    const issued = await program.run();
    vi.stubEnv("ITHACA_CUDA_GRAPH", "1");
    expect(await program.run()).toEqual(issued);
  });
});

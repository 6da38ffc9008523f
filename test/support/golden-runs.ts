/** @file Training equals Hugging Face transformers under PyTorch: the same weights, tokens, losses, norms and final weights. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import type { TargetName } from "../../src/codegen/targets.ts";
import { compileConfig } from "../../src/compile.ts";
import { parseConfig } from "../../src/config/load.ts";
import { train } from "../../src/launch/train.ts";
import { readSafetensors } from "../end-to-end/safetensors.ts";

const goldens = fileURLToPath(new URL("../golden/", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "ithaca-golden-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

interface Trajectory {
  readonly losses: readonly number[];
  readonly grad_norms: readonly number[];
}

interface Golden {
  readonly about: string;
  readonly model: string;
  readonly tokens: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly fp32: Trajectory & { readonly tokens: readonly number[] };
  readonly bf16: Trajectory;
  /** How far PyTorch is from itself when it computes in another way. */
  readonly noise: { readonly bf16_loss: number; readonly bf16_grad_norm: number };
}

/** What is read of a line of metrics.jsonl. */
interface Metrics {
  readonly loss: number;
  readonly grad_norm: number;
  readonly tokens: number;
}

/** Trains a golden's five steps as `ithaca train` does. */
async function run(
  target: TargetName,
  name: string,
  golden: Golden,
  precision: "fp32" | "bf16",
  settings: Record<string, unknown> = {},
) {
  const folder = join(goldens, name);
  const output = mkdtempSync(join(scratch, `${name}-`));
  const values = {
    ...golden.config,
    model: resolve(folder, golden.model),
    data: resolve(folder, golden.tokens),
    output_dir: output,
    precision,
    target,
    threads: 2,
    ...settings,
  };
  const config = parseConfig(JSON.stringify(values), join(output, "config.yaml"));
  const silent = { report: () => {}, lines: new (await import("node:stream")).PassThrough().resume() };
  const { exitCode } = await train(await compileConfig(config), config, silent);
  expect(exitCode).toBe(0);
  const lines = readFileSync(join(output, "metrics.jsonl"), "utf8").trim().split("\n");
  const metrics = lines.map(
    (line) => JSON.parse(line) as { loss: number; grad_norm: number; tokens: number },
  );
  return { metrics, final: readSafetensors(join(output, "final", "model.safetensors")) };
}

/** Losses and gradient norms within these relative distances of what is expected. */
function expectClose(metrics: readonly Metrics[], expected: Trajectory, loss: number, norm: number): void {
  metrics.forEach((step, i) => {
    expect(Math.abs(step.loss / expected.losses[i] - 1), `loss of step ${i + 1}`).toBeLessThan(loss);
    expect(Math.abs(step.grad_norm / expected.grad_norms[i] - 1), `norm of step ${i + 1}`).toBeLessThan(norm);
  });
}

const cases = readdirSync(goldens, { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && !entry.name.startsWith("__"))
  .map(({ name }) => ({
    name,
    golden: JSON.parse(readFileSync(join(goldens, name, "golden.json"), "utf8")) as Golden,
  }));

/** Every golden on a target, and the one of llama for every way to split the work. */
export function describeGoldens(target: TargetName): void {
  describe.each(cases)("$name: $golden.about", ({ name, golden }) => {
    test("fp32 losses, gradient norms and final weights are PyTorch's", async () => {
      const { metrics, final } = await run(target, name, golden, "fp32");
      expect(metrics.map(({ tokens }) => tokens)).toEqual(golden.fp32.tokens);
      expectClose(metrics, golden.fp32, 2e-5, 1e-4);
      for (const [tensor, expected] of readSafetensors(join(goldens, name, "final.safetensors"))) {
        const own = final.get(tensor) ?? new Float32Array();
        expect(own.length, tensor).toBe(expected.length);
        const difference = expected.reduce((worst, value, i) => Math.max(worst, Math.abs(value - own[i])), 0);
        expect(difference, tensor).toBeLessThan(1e-4);
      }
    });

    test("bf16 is within the noise of PyTorch's autocast", async () => {
      const { metrics } = await run(target, name, golden, "bf16");
      const { bf16_loss, bf16_grad_norm } = golden.noise;
      expectClose(metrics, golden.bf16, Math.max(3 * bf16_loss, 3e-4), Math.max(3 * bf16_grad_norm, 1e-2));
    });
  });

  describe("numbers do not depend on how the work is split", () => {
    const { golden } = cases.find(({ name }) => name === "llama") as (typeof cases)[number];

    test.each([
      ["a tiled loss", { memory: { tiled_loss: 7 } }],
      ["tiled MLPs and projections", { memory: { tiled_mlp: 7, tiled_projections: 4 } }],
      [
        "tiles of a shared sequence in recomputed layers",
        {
          parallel: { sequence: 2 },
          threads: 1,
          memory: { tiled_mlp: 4, tiled_projections: 3, activation_checkpointing: "attention" },
        },
      ],
      ["one thread", { threads: 1 }],
      ["a sequence shared by two ranks", { parallel: { sequence: 2 }, threads: 1 }],
      [
        "a shared sequence, a tiled loss and recomputed layers",
        {
          parallel: { sequence: 2 },
          threads: 1,
          memory: { tiled_loss: 5, activation_checkpointing: "attention" },
        },
      ],
      [
        "a sequence shared by four ranks, which neither 770 tokens nor 6 heads divide by",
        { parallel: { sequence: 4 }, threads: 1 },
      ],
    ])("%s", async (_, settings) => {
      const { metrics } = await run(target, "llama", golden, "fp32", settings);
      expectClose(metrics, golden.fp32, 2e-5, 1e-4);
    });

    test("recomputed layers give the same numbers to the last bit", async () => {
      const kept = await run(target, "llama", golden, "fp32");
      for (const policy of ["layer", "attention"]) {
        const again = await run(target, "llama", golden, "fp32", {
          memory: { activation_checkpointing: policy },
        });
        expect(again.metrics.map(({ loss }) => loss)).toEqual(kept.metrics.map(({ loss }) => loss));
        expect(again.final).toEqual(kept.final);
      }
    });
  });
}

/**
 * @file 20 steps of a small Llama beside PyTorch's on the same weights and tokens: its losses, whatever the number of ranks
 * that share a sequence.
 */
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import type { TargetName } from "../../src/codegen/targets.ts";
import { compileConfig } from "../../src/compile.ts";
import { parseConfig } from "../../src/config/load.ts";
import { train } from "../../src/launch/train.ts";
import { LEARNING_RATE, type Setting, startTorch } from "../sides.ts";
import type { Finding } from "./clock.ts";

/**
 * Largest relative difference of a loss allowed in 20 steps: sums in another order in fp32, and in bf16 what roundings at
 * other places come to, as bench/README.md has it for its losses.
 */
export const BOUND: Readonly<Record<string, number>> = { fp32: 1e-4, bf16: 1e-2 };

/** Losses of PyTorch's first steps. */
export async function torchLosses(setting: Setting, steps: number): Promise<number[]> {
  const peer = await startTorch(setting);
  try {
    const losses: number[] = [];
    for (let step = 0; step < steps; step++) losses.push((await peer.step()).loss);
    await peer.quit();
    return losses;
  } finally {
    peer.kill();
  }
}

/** Losses of our first steps, as `ithaca train` makes them, on ranks that are threads. */
export async function ourLosses(
  setting: Setting,
  steps: number,
  ranks: number,
  comm: "local" | "nccl" = "local",
): Promise<number[]> {
  const output = join(setting.model, `agreement-${setting.device}-${setting.precision}-${ranks}-${comm}`);
  mkdirSync(output, { recursive: true });
  const values = {
    ...{ model: setting.model, data: join(setting.model, "tokens.bin"), output_dir: output },
    ...{ target: setting.device, precision: setting.precision, sequence_length: setting.sequence },
    ...{ threads: Math.max(1, Math.floor(setting.threads / ranks)), parallel: { sequence: ranks, comm } },
    ...{ max_steps: steps, learning_rate: LEARNING_RATE, adam_beta2: 0.95, max_grad_norm: setting.clip },
  };
  const config = parseConfig(JSON.stringify(values), join(output, "config.yaml"));
  const { exitCode } = await train(await compileConfig(config), config, {
    report: console.error,
    lines: new PassThrough().resume(),
  });
  if (exitCode !== 0) throw new Error(`training on ${ranks} ranks ended with exit code ${exitCode}`);
  const lines = readFileSync(join(output, "metrics.jsonl"), "utf8").trim().split("\n");
  return lines.map((line) => (JSON.parse(line) as { loss: number }).loss);
}

/** The largest relative difference; Infinity where the lengths differ or a loss is no number. */
export function apart(own: readonly number[], expected: readonly number[]): number {
  if (own.length !== expected.length || expected.length === 0) return Number.POSITIVE_INFINITY;
  const most = Math.max(...own.map((loss, i) => Math.abs(loss / expected[i] - 1)));
  return Number.isNaN(most) ? Number.POSITIVE_INFINITY : most;
}

export function agreement(precision: string, own: readonly number[], expected: readonly number[]): Finding {
  const most = apart(own, expected);
  const bound = BOUND[precision];
  const [first, last] = [own[0], own[own.length - 1]];
  return {
    outcome: most <= bound ? "passed" : "failed",
    detail:
      `losses of ${own.length} steps at most ${most.toExponential(1)} apart, ${bound} allowed` +
      ` (${first?.toFixed(4)} to ${last?.toFixed(4)})`,
  };
}

/** The bench model's setting on a device. */
export function agreementSetting(
  model: string,
  python: string,
  precision: "fp32" | "bf16",
  device: TargetName,
  threads: number,
): Setting {
  return { model, python, precision, device, threads, sequence: 1024, clip: null, set: [], random: false };
}

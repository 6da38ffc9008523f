/** @file The two sides of a bench as processes that are stepped: PyTorch's step.py and a compiled program in ours.ts. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { stringify } from "yaml";
import { buildProgram } from "../src/codegen/build.ts";
import type { TargetName } from "../src/codegen/targets.ts";
import { compileConfig } from "../src/compile.ts";
import { loadConfig } from "../src/config/load.ts";
import { Peer } from "./peer.ts";

export interface Setting {
  readonly precision: string;
  readonly sequence: number;
  readonly threads: number;
  /** Holds config.json, tokens.bin and, unless weights are drawn, model.safetensors. */
  readonly model: string;
  /** Global norm that gradients are clipped to; null: not at all. */
  readonly clip: number | null;
  /** Options of ours as for `ithaca --set`, such as memory.activation_checkpointing=attention. */
  readonly set: readonly string[];
  readonly python: string;
  readonly device: TargetName;
  /** Whether each side draws weights of its own. */
  readonly random: boolean;
}

/** A program of ours, and what its plan says. */
export interface Prepared {
  readonly program: string;
  readonly deviceBytes: number;
}

export const LEARNING_RATE = 1e-4;
const HERE = fileURLToPath(new URL(".", import.meta.url));

/** Starts PyTorch's side; `options` are step.py's, such as --compile. */
export function startTorch(setting: Setting, options: readonly string[] = []): Promise<Peer> {
  const args = [
    ...["--model", setting.model, "--sequence", String(setting.sequence), "--precision", setting.precision],
    ...["--threads", String(setting.threads), "--learning-rate", String(LEARNING_RATE)],
    ...["--device", setting.device, ...(setting.random ? ["--random"] : [])],
    ...(setting.clip === null ? [] : ["--clip", String(setting.clip)]),
  ];
  return Peer.start("PyTorch", setting.python, [join(HERE, "step.py"), ...args, ...options]);
}

/** Compiles the bench model as `ithaca compile` would. */
export async function prepareOurs(setting: Setting): Promise<Prepared> {
  const output = join(setting.model, `${setting.precision}-${setting.sequence}`);
  mkdirSync(output, { recursive: true });
  const configPath = join(output, "config.yaml");
  writeFileSync(
    configPath,
    stringify({
      model: setting.model,
      data: join(setting.model, "tokens.bin"),
      output_dir: output,
      target: setting.device,
      precision: setting.precision,
      threads: setting.threads,
      sequence_length: setting.sequence,
      max_steps: 1000,
      learning_rate: LEARNING_RATE,
      weight_decay: 0.1,
      adam_beta2: 0.95,
      max_grad_norm: setting.clip,
    }),
  );
  const { sources, plan } = await compileConfig(loadConfig(configPath, setting.set));
  const { program } = await buildProgram(sources, join(output, "build"), setting.device, console.error);
  return { program, deviceBytes: plan?.deviceBytes ?? 0 };
}

/** Starts a process that steps the program. */
export function startOurs(setting: Setting, { program }: Prepared): Promise<Peer> {
  const args = [
    ...["--program", program, "--model", setting.model, "--threads", String(setting.threads)],
    ...["--learning-rate", String(LEARNING_RATE), ...(setting.random ? ["--random"] : [])],
  ];
  return Peer.start("Ithaca", process.execPath, ["--import", "tsx", join(HERE, "ours.ts"), ...args]);
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

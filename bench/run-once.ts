/** @file What benches of memory share: a model of random weights in a folder, random tokens, and a run in this process's child. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { type Compiled, compileConfig } from "../src/compile.ts";
import { type Config, parseConfig } from "../src/config/load.ts";
import type { Plan } from "../src/ir/plan.ts";
import { train } from "../src/launch/train.ts";

/**
 * What a process of any number of local ranks has resident beside its arenas, in bytes: stacks of threads, generated code,
 * and pages of the data that a step reads. Everything else that kernels use is in the plan.
 */
export const PROCESS_BYTES = 2 * 2 ** 20;

/** Writes config.json of a Llama, or of what `shape` says, into a new folder. */
export function writeModel(folder: string, shape: Readonly<Record<string, unknown>>): void {
  mkdirSync(folder, { recursive: true });
  const model = {
    ...{ architectures: ["LlamaForCausalLM"], model_type: "llama", hidden_act: "silu", rms_norm_eps: 1e-5 },
    ...{ rope_theta: 10000, tie_word_embeddings: true },
    ...shape,
  };
  writeFileSync(join(folder, "config.json"), JSON.stringify(model));
}

export function writeTokens(path: string, count: number, vocabulary: number, next: () => number): void {
  writeFileSync(
    path,
    Uint32Array.from({ length: count }, () => Math.floor(next() * vocabulary)),
  );
}

/** A configuration of these values; paths in it are as given. */
export function configFrom(values: Readonly<Record<string, unknown>>, folder: string): Config {
  return parseConfig(JSON.stringify({ learning_rate: 1e-4, ...values }), join(folder, "config.yaml"));
}

export interface RunOnce {
  readonly compiled: Compiled & { readonly plan: Plan };
  /** The last line of metrics.jsonl. */
  readonly metrics: {
    readonly loss: number;
    readonly step_time_s: number;
    readonly device_peak_bytes: number;
    readonly host_peak_bytes: number;
    readonly process_peak_bytes: number;
  };
}

/** Compiles and trains as `ithaca train` does. Throws where the arenas of the run are not the plan's, to the byte. */
export async function runOnce(config: Config): Promise<RunOnce> {
  const compiled = await compileConfig(config);
  const { plan } = compiled;
  if (!plan) throw new Error("there is no plan");
  const silent = { report: () => {}, lines: new PassThrough().resume() };
  const { exitCode } = await train(compiled, config, silent);
  if (exitCode !== 0) throw new Error(`training ended with exit code ${exitCode}`);
  const lines = readFileSync(join(config.output_dir, "metrics.jsonl"), "utf8").trim().split("\n");
  const metrics = JSON.parse(lines[lines.length - 1]);
  if (metrics.device_peak_bytes !== plan.deviceBytes || metrics.host_peak_bytes !== plan.hostBytes)
    throw new Error("the arenas are not the plan's");
  return { compiled: { ...compiled, plan }, metrics };
}

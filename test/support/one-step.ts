/** @file One step of training through the whole road, as `ithaca train` makes it: its loss and every gradient. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { fileURLToPath } from "node:url";
import { compileConfig } from "../../src/compile.ts";
import { parseConfig } from "../../src/config/load.ts";
import { train } from "../../src/launch/train.ts";
import { readSafetensors } from "../end-to-end/safetensors.ts";

export interface OneStep {
  readonly loss: number;
  readonly gradNorm: number;
  /** Labelled tokens of the global batch. */
  readonly tokens: number;
  /** Of the mean loss, by parameter. */
  readonly gradients: ReadonlyMap<string, Float32Array>;
}

/** A small decoder, its weights drawn wide enough for attention to be far from uniform. */
export function smallModel(changes: Readonly<Record<string, unknown>> = {}) {
  const config = {
    vocab_size: 61,
    hidden_size: 24,
    intermediate_size: 40,
    num_hidden_layers: 2,
    num_attention_heads: 6,
    num_key_value_heads: 3,
    head_dim: 4,
    hidden_act: "silu",
    rms_norm_eps: 1e-5,
    rope_parameters: { rope_type: "default", rope_theta: 100 },
    initializer_range: 0.3,
    sliding_window: null,
    ...changes,
  };
  return { source: fileURLToPath(new URL("../../src/models/mistral.ts", import.meta.url)), config };
}

/** Writes tokens.bin, and tokens.docs.bin where documents have a start, into a new folder of `parent`. */
export function writeTokens(parent: string, tokens: readonly number[], starts?: readonly number[]): string {
  mkdirSync(parent, { recursive: true });
  const folder = mkdtempSync(join(parent, "tokens-"));
  writeFileSync(join(folder, "tokens.bin"), Uint32Array.from(tokens));
  if (starts) writeFileSync(join(folder, "tokens.docs.bin"), BigUint64Array.from(starts, BigInt));
  return join(folder, "tokens.bin");
}

/**
 * Runs the first step. The gradients are AdamW's first moment behind it: with beta1 = 0 and without clipping that is the
 * gradient itself, and snapshots have it whole, whatever the layout.
 */
export async function oneStep(values: Readonly<Record<string, unknown>>): Promise<OneStep> {
  const output = mkdtempSync(join(tmpdir(), "ithaca-step-"));
  try {
    const settings = {
      max_steps: 1,
      learning_rate: 1e-3,
      adam_beta1: 0,
      max_grad_norm: null,
      snapshot_every: 1,
    };
    const text = JSON.stringify({ threads: 1, ...settings, ...values, output_dir: output });
    const config = parseConfig(text, join(output, "config.yaml"));
    const silent = { report: () => {}, lines: new PassThrough().resume() };
    const { exitCode } = await train(await compileConfig(config), config, silent);
    if (exitCode !== 0) throw new Error(`training ended with exit code ${exitCode}`);
    const metrics = JSON.parse(readFileSync(join(output, "metrics.jsonl"), "utf8"));
    const moment = "adamw.m.";
    const gradients = [...readSafetensors(join(output, "snapshots/step-1/tensors.safetensors"))]
      .filter(([name]) => name.startsWith(moment))
      .map(([name, data]) => [name.slice(moment.length), data] as const);
    return {
      loss: metrics.loss,
      gradNorm: metrics.grad_norm,
      tokens: metrics.tokens,
      gradients: new Map(gradients),
    };
  } finally {
    rmSync(output, { recursive: true });
  }
}

/** How far two runs are apart: of numbers relative, of a tensor the largest difference by its largest magnitude. */
export interface Distance {
  readonly loss: number;
  readonly gradNorm: number;
  readonly gradient: number;
  /** The parameter whose gradients are farthest apart. */
  readonly worst: string;
}

export function distance(own: OneStep, expected: OneStep): Distance {
  let [gradient, worst] = [0, ""];
  for (const [name, values] of expected.gradients) {
    const other = own.gradients.get(name);
    if (other?.length !== values.length) throw new Error(`${name} has no gradient of its size`);
    const scale = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const apart = values.reduce((most, value, i) => Math.max(most, Math.abs(value - other[i])), 0);
    const relative = Number.isNaN(apart) ? Number.POSITIVE_INFINITY : apart / (scale || 1);
    if (!(relative <= gradient)) [gradient, worst] = [relative, name];
  }
  const relative = (x: number, y: number) => Math.abs(x - y) / Math.abs(y);
  return {
    loss: relative(own.loss, expected.loss),
    gradNorm: relative(own.gradNorm, expected.gradNorm),
    gradient,
    worst,
  };
}

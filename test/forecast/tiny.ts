/** @file Small configurations to plan: a Llama directory and a config.yaml beside it. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { type Config, loadConfig } from "../../src/config/load.ts";

const folder = mkdtempSync(join(tmpdir(), "ithaca-forecast-"));
afterAll(() => rmSync(folder, { recursive: true }));

export const LLAMA = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_size: 64,
  intermediate_size: 160,
  num_hidden_layers: 4,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  vocab_size: 512,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  hidden_act: "silu",
  tie_word_embeddings: false,
  max_position_embeddings: 4096,
};

/** The path of a config.yaml for a model of this shape; there is no data. */
export function written(name: string, shape: object = {}, more = ""): string {
  const model = join(folder, name);
  mkdirSync(model, { recursive: true });
  writeFileSync(join(model, "config.json"), JSON.stringify({ ...LLAMA, ...shape }));
  const path = join(folder, `${name}.yaml`);
  writeFileSync(
    path,
    `model: ${name}\ndata: none.bin\noutput_dir: run\nsequence_length: 256\nmax_steps: 1\nlearning_rate: 1e-3\nthreads: 2\n${more}`,
  );
  return path;
}

export function configOf(...overrides: string[]): Config {
  return loadConfig(written("tiny"), overrides, { planning: true });
}

/** @file What of the configuration and the model ends in the run file. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parseConfig } from "../../src/config/load.ts";
import type { Model } from "../../src/frontend/huggingface.ts";
import { runFile } from "../../src/launch/run-file.ts";

let folder: string;
const at = (name: string) => join(folder, name);

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ithaca-run-"));
  for (const name of ["model", "other"]) {
    mkdirSync(at(name));
    writeFileSync(at(`${name}/tokenizer.json`), "{}");
    writeFileSync(at(`${name}/tokenizer_config.json`), "{}");
  }
  writeFileSync(at("model/config.json"), "{}");
  writeFileSync(at("tokens.bin"), new Uint8Array(8));
});

afterAll(() => rmSync(folder, { recursive: true }));

const text = `model: model
data: tokens.bin
output_dir: runs
sequence_length: 8
max_steps: 20
learning_rate: 1.0e-3
threads: 2
`;
const data = { tokens: "/tokens.bin", dtype: "uint32", documents: null } as const;

function run(model: Partial<Model>, ...options: string[]) {
  const files = {
    file: "llama.ts",
    className: null,
    weights: [at("model/model.safetensors")],
    configFile: at("model/config.json"),
    config: { vocab_size: 1003 },
    extraFiles: [at("model/tokenizer.json"), at("model/generation_config.json")],
    vocabularySize: 1003,
  };
  return runFile(parseConfig(text, at("config.yaml"), options), { ...files, ...model }, data, at("build"));
}

test("all of it", async () => {
  expect(await run({})).toEqual({
    data,
    weights: [at("model/model.safetensors")],
    seed: 0,
    output_dir: at("runs"),
    config_json: at("model/config.json"),
    extra_files: [at("model/tokenizer.json"), at("model/generation_config.json")],
    vocab_size: 1003,
    sequence_length: 8,
    max_steps: 20,
    learning_rate: 1e-3,
    lr_scheduler_type: "constant",
    warmup_steps: 0,
    snapshot_every: 0,
    resume: null,
    save_final: true,
    trace: null,
    host_spill: null,
    threads: 2,
    ranks: 1,
    comm: "local",
    timeout_s: 30,
  });
});

test("a definition's configuration is written down", async () => {
  const { config_json } = await run({ configFile: null });
  expect(JSON.parse(readFileSync(config_json, "utf8"))).toEqual({ vocab_size: 1003 });
});

test("a tokenizer from elsewhere takes the place of the model's", async () => {
  const { extra_files } = await run({}, `tokenizer=${at("other")}`);
  expect(extra_files).toEqual([
    at("other/tokenizer.json"),
    at("other/tokenizer_config.json"),
    at("model/generation_config.json"),
  ]);
});

test("a model without a vocabulary size", async () => {
  await expect(run({ vocabularySize: null })).rejects.toThrow(
    "the configuration of the model has no vocab_size",
  );
});

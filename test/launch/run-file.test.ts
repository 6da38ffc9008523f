/** @file What of the configuration and the model directory ends in the run file. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parseConfig } from "../../src/config/load.ts";
import { runFile, vocabSize, weightFiles } from "../../src/launch/run-file.ts";

let folder: string;
const at = (name: string) => join(folder, name);

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ithaca-run-"));
  mkdirSync(at("model"));
  mkdirSync(at("sharded"));
  mkdirSync(at("pickled"));
  writeFileSync(at("model/config.json"), '{"vocab_size": 1003}');
  writeFileSync(at("model/model.safetensors"), "");
  writeFileSync(at("model/tokenizer.json"), "{}");
  writeFileSync(at("sharded/a.safetensors"), "");
  writeFileSync(at("pickled/pytorch_model.bin"), "");
  writeFileSync(at("tokens.bin"), new Uint8Array(8));
  writeFileSync(at("my.ts"), "");
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

function config(...options: string[]) {
  return parseConfig(text, at("config.yaml"), options);
}

const data = { tokens: "/tokens.bin", dtype: "uint32", documents: null } as const;

test("all of it", async () => {
  expect(await runFile(config(), data, at("build"))).toEqual({
    data,
    weights: [at("model/model.safetensors")],
    seed: 0,
    output_dir: at("runs"),
    config_json: at("model/config.json"),
    extra_files: [at("model/tokenizer.json")],
    vocab_size: 1003,
    max_steps: 20,
    learning_rate: 1e-3,
    lr_scheduler_type: "constant",
    warmup_steps: 0,
    snapshot_every: 0,
    resume: null,
    save_final: true,
    threads: 2,
    ranks: 1,
    comm: "local",
  });
});

test("a definition's configuration is written down", async () => {
  const own = config(`model={source: ${at("my.ts")}, config: {vocab_size: 7}}`);
  const run = await runFile(own, data, at("build"));
  expect(run).toMatchObject({
    weights: [],
    config_json: at("build/config.json"),
    vocab_size: 7,
    extra_files: [],
  });
});

test("a model without a vocabulary size", () => {
  const own = config(`model={source: ${at("my.ts")}, config: {vocab: 7}}`);
  expect(() => vocabSize(own)).toThrow("vocab_size is missing; it must be a whole number of at least 1");
});

test("sharded weights, once each and all there", () => {
  const write = (map: object) =>
    writeFileSync(at("sharded/model.safetensors.index.json"), JSON.stringify({ weight_map: map }));
  write({ w: "a.safetensors", v: "a.safetensors" });
  expect(weightFiles(at("sharded"))).toEqual([at("sharded/a.safetensors")]);
  write({ w: "a.safetensors", v: "b.safetensors" });
  expect(() => weightFiles(at("sharded"))).toThrow(
    `${at("sharded/b.safetensors")} is named here and is not there`,
  );
});

test("pickled weights", () => {
  expect(() => weightFiles(at("pickled"))).toThrow(
    "the weights are in pytorch_model.bin; only safetensors are read",
  );
});

/** @file Hugging Face directories: which definition they select, what is filled in. */
import { basename } from "node:path";
import { describe, expect, test } from "vitest";
import { readModel } from "../../src/frontend/index.ts";
import { LLAMA, read, refused } from "./directory.ts";

describe("defaults are those of transformers", () => {
  test("llama", () => {
    const model = read(LLAMA);
    expect(basename(model.file)).toBe("llama.ts");
    expect(model.className).toBe("LlamaForCausalLM");
    expect(model.vocabularySize).toBe(32000);
    expect(model.weights).toEqual([]);
    expect({ ...model.config }).toMatchObject({
      intermediate_size: 11008,
      num_key_value_heads: 6,
      head_dim: 16,
      rms_norm_eps: 1e-6,
      tie_word_embeddings: false,
      rope_parameters: { rope_type: "default", rope_theta: 10000 },
    });
  });

  test("qwen3 has heads of 128, mistral a window of 4096", () => {
    expect(read({ ...LLAMA, model_type: "qwen3", num_key_value_heads: 2 }).config.head_dim).toBe(128);
    const mistral = { ...LLAMA, model_type: "mistral", num_key_value_heads: 2 };
    expect(read(mistral).config.sliding_window).toBe(4096);
    expect(read({ ...mistral, sliding_window: null }).config.sliding_window).toBe(null);
  });

  test("null stands for the default", () => {
    const { config } = read({ ...LLAMA, head_dim: null, num_key_value_heads: null, rope_scaling: null });
    expect([config.head_dim, config.num_key_value_heads]).toEqual([16, 6]);
  });
});

describe("rotary embedding", () => {
  const llama3 = {
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
  };

  test.each([
    ["rope_theta alone", { rope_theta: 500000 }, { rope_type: "default", rope_theta: 500000 }],
    [
      "rope_scaling of old, with type",
      { rope_theta: 7, rope_scaling: { type: "linear", factor: 2 } },
      { rope_type: "linear", rope_theta: 7, factor: 2 },
    ],
    [
      "rope_scaling of Llama 3.1",
      { rope_theta: 500000, rope_scaling: { rope_type: "llama3", ...llama3 } },
      { rope_type: "llama3", rope_theta: 500000, ...llama3 },
    ],
    [
      "rope_parameters",
      { rope_parameters: { rope_type: "llama3", rope_theta: 500000, ...llama3 } },
      { rope_type: "llama3", rope_theta: 500000, ...llama3 },
    ],
  ])("%s", (_, keys, expected) => {
    expect(read({ ...LLAMA, ...keys }).config.rope_parameters).toEqual(expected);
  });
});

describe("windows of Qwen", () => {
  const qwen = {
    ...LLAMA,
    model_type: "qwen2",
    num_hidden_layers: 4,
    num_key_value_heads: 2,
    max_window_layers: 2,
  };

  test.each([
    ["off by default", { sliding_window: 64 }, "ffff"],
    ["from max_window_layers on", { sliding_window: 64, use_sliding_window: true }, "ffss"],
    [
      "by layer_types",
      {
        sliding_window: 64,
        use_sliding_window: true,
        layer_types: ["sliding_attention", "full_attention", "full_attention", "sliding_attention"],
      },
      "sffs",
    ],
  ])("%s", (_, keys, expected) => {
    const types = read({ ...qwen, ...keys }).config.layer_types as string[];
    expect(types.map((type) => type[0]).join("")).toBe(expected);
  });
});

describe("files", () => {
  const index = (map: object) => ({ "model.safetensors.index.json": { weight_map: map } });

  test("one file of weights, and what belongs to the tokenizer", () => {
    const model = read(LLAMA, {
      "model.safetensors": "",
      "tokenizer.json": "{}",
      "notes.txt": "",
      "merges.txt": "",
    });
    expect(model.weights.map((file) => basename(file))).toEqual(["model.safetensors"]);
    expect(model.extraFiles.map((file) => basename(file))).toEqual(["tokenizer.json", "merges.txt"]);
    expect(basename(model.configFile ?? "")).toBe("config.json");
  });

  test("files that an index names, once each", () => {
    const model = read(LLAMA, {
      ...index({ a: "m-2.safetensors", b: "m-1.safetensors", c: "m-2.safetensors" }),
      "m-1.safetensors": "",
      "m-2.safetensors": "",
    });
    expect(model.weights.map((file) => basename(file))).toEqual(["m-1.safetensors", "m-2.safetensors"]);
  });

  test("a definition of the user's own", () => {
    const model = readModel({ source: "my.ts", config: { vocab_size: 7 } }, "/base");
    expect(model).toMatchObject({
      file: "/base/my.ts",
      className: null,
      vocabularySize: 7,
      configFile: null,
    });
  });

  test.each([
    [
      "../../secret.safetensors",
      '"../../secret.safetensors" is not the name of a safetensors file in this directory',
    ],
    ["/etc/passwd", '"/etc/passwd" is not the name of a safetensors file in this directory'],
    [
      "m-9.safetensors",
      "1 of 1 weight files are missing, the first DIR/m-9.safetensors\n  Download them again.",
    ],
  ])("an index that names %s", async (name, message) => {
    expect(await refused(LLAMA, index({ a: name }))).toContain(message);
  });
});

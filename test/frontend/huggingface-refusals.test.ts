/** @file What a Hugging Face directory can get wrong, word for word. */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { readModelDirectory } from "../../src/frontend/index.ts";
import { directory, LLAMA, refused } from "./directory.ts";
import { refusal } from "./lowering.ts";

const table: readonly (readonly [what: string, config: unknown, message: string])[] = [
  [
    "a model_type that there is not",
    { model_type: "lama" },
    `
DIR/config.json:2:3: model_type "lama" is not known
  1 | {
> 2 |   "model_type": "lama"
    |   ^
  3 | }
  Did you mean "llama"? Known are llama, mistral, qwen2, qwen3.
  Any other model can be written as a definition; src/models/llama.ts is one to start from.
  model: { source: my-model.ts, config: { ... } }`,
  ],
  [
    "a model_type of another kind",
    { model_type: "mamba" },
    `
DIR/config.json:2:3: model_type "mamba" is not known
  1 | {
> 2 |   "model_type": "mamba"
    |   ^
  3 | }
  Known are llama, mistral, qwen2, qwen3.
  Any other model can be written as a definition; src/models/llama.ts is one to start from.
  model: { source: my-model.ts, config: { ... } }`,
  ],
  [
    "no model_type",
    {},
    `
DIR/config.json: config.json does not say its model_type
  Known are llama, mistral, qwen2, qwen3.
  Any other model can be written as a definition; src/models/llama.ts is one to start from.
  model: { source: my-model.ts, config: { ... } }`,
  ],
  [
    "another head on the model",
    { ...LLAMA, architectures: ["LlamaForSequenceClassification"] },
    `
DIR/config.json:6:3: the architecture LlamaForSequenceClassification is not one that can be trained here
  5 |   "num_hidden_layers": 2,
> 6 |   "architectures": [
    |   ^
  7 |     "LlamaForSequenceClassification"
  For llama it is LlamaForCausalLM.`,
  ],
  [
    "an activation",
    { ...LLAMA, hidden_act: "gelu" },
    `
DIR/config.json:6:3: hidden_act "gelu" is not supported
  5 |   "num_hidden_layers": 2,
> 6 |   "hidden_act": "gelu"
    |   ^
  7 | }
  Supported are silu, swish, gelu_pytorch_tanh, gelu_new, relu.`,
  ],
  [
    "dropout",
    { ...LLAMA, attention_dropout: 0.1 },
    `
DIR/config.json:6:3: attention_dropout is 0.1, but there is no dropout
  5 |   "num_hidden_layers": 2,
> 6 |   "attention_dropout": 0.1
    |   ^
  7 | }
  Set it to 0.0.`,
  ],
  [
    "quantized weights",
    { ...LLAMA, quantization_config: { bits: 4 } },
    `
DIR/config.json:6:3: the weights are quantized
  5 |   "num_hidden_layers": 2,
> 6 |   "quantization_config": {
    |   ^
  7 |     "bits": 4
  Use the model's unquantized weights, or dequantize them with transformers first.`,
  ],
  [
    "rope scaling",
    { ...LLAMA, rope_scaling: { rope_type: "yarn", factor: 4 } },
    `
DIR/config.json:6:3: rotary embedding of type "yarn" is not supported
  5 |   "num_hidden_layers": 2,
> 6 |   "rope_scaling": {
    |   ^
  7 |     "rope_type": "yarn",
  The types are default, linear and llama3. To train without it, remove it and keep to the sequence length for which the model was trained; or write a definition of your own (see src/models/llama.ts).`,
  ],
  [
    "rope scaling without its numbers",
    { ...LLAMA, rope_scaling: { rope_type: "llama3", factor: 4 } },
    `
DIR/config.json:6:3: rotary embedding of type "llama3" needs low_freq_factor
  5 |   "num_hidden_layers": 2,
> 6 |   "rope_scaling": {
    |   ^
  7 |     "rope_type": "llama3",
  It needs factor, low_freq_factor, high_freq_factor, original_max_position_embeddings.`,
  ],
  [
    "rope_theta",
    { ...LLAMA, rope_theta: -1 },
    `
DIR/config.json:6:3: rope_theta must be a number greater than 0, not -1
  5 |   "num_hidden_layers": 2,
> 6 |   "rope_theta": -1
    |   ^
  7 | }`,
  ],
  [
    "part of each head",
    { ...LLAMA, partial_rotary_factor: 0.5 },
    `
DIR/config.json:6:3: partial_rotary_factor is 0.5, but only whole heads can be turned
  5 |   "num_hidden_layers": 2,
> 6 |   "partial_rotary_factor": 0.5
    |   ^
  7 | }
  Write a definition of your own (see src/models/llama.ts).`,
  ],
  [
    "a size that is text",
    { ...LLAMA, hidden_size: "96" },
    `
DIR/config.json:3:3: hidden_size must be a whole number of at least 1, not "96"
  2 |   "model_type": "llama",
> 3 |   "hidden_size": "96",
    |   ^
  4 |   "num_attention_heads": 6,`,
  ],
  [
    "heads that don't share",
    { ...LLAMA, num_key_value_heads: 4 },
    `
DIR/config.json:6:3: 6 attention heads can't share 4 key and value heads evenly
  5 |   "num_hidden_layers": 2,
> 6 |   "num_key_value_heads": 4
    |   ^
  7 | }
  Make num_key_value_heads a divisor of 6.`,
  ],
  [
    "heads that don't divide",
    { ...LLAMA, num_attention_heads: 7 },
    `
DIR/config.json:4:3: hidden_size 96 can't be divided into 7 heads
  3 |   "hidden_size": 96,
> 4 |   "num_attention_heads": 7,
    |   ^
  5 |   "num_hidden_layers": 2
  Set head_dim, or change one of them.`,
  ],
  [
    "an odd head",
    { ...LLAMA, head_dim: 15 },
    `
DIR/config.json:6:3: head_dim 15 is odd
  5 |   "num_hidden_layers": 2,
> 6 |   "head_dim": 15
    |   ^
  7 | }
  Rotary embedding turns pairs of elements.`,
  ],
  [
    "a window",
    { ...LLAMA, model_type: "mistral", num_key_value_heads: 2, sliding_window: -1 },
    `
DIR/config.json:7:3: sliding_window must be a whole number of at least 1, not -1
  6 |   "num_key_value_heads": 2,
> 7 |   "sliding_window": -1
    |   ^
  8 | }`,
  ],
  [
    "layer_types",
    { ...LLAMA, model_type: "qwen2", num_key_value_heads: 2, layer_types: ["full_attention"] },
    `
DIR/config.json:7:3: layer_types must name one of full_attention, sliding_attention for each of the 2 layers
  6 |   "num_key_value_heads": 2,
> 7 |   "layer_types": [
    |   ^
  8 |     "full_attention"`,
  ],
  [
    "what is not JSON",
    '{ "model_type": "llama",\n  hidden_size: 96 }',
    `
DIR/config.json:2:3: this is not JSON: Expected double-quoted property name
  1 | { "model_type": "llama",
> 2 |   hidden_size: 96 }
    |   ^`,
  ],
  [
    "a value that JSON doesn't have",
    '{ "model_type": "llama",\n  "use_cache": True,\n  "hidden_size": 96 }',
    `
DIR/config.json:2:16: this is not JSON: Unexpected token 'T'
  1 | { "model_type": "llama",
> 2 |   "use_cache": True,
    |                ^
  3 |   "hidden_size": 96 }`,
  ],
  [
    "what is cut off",
    '{ "model_type": "llama"',
    `
DIR/config.json:1:24: this is not JSON: Expected ',' or '}' after property value
> 1 | { "model_type": "llama"
    |                        ^`,
  ],
  [
    "what is not an object",
    "[1, 2]",
    `
DIR/config.json: this file must hold a JSON object`,
  ],
];

describe("refusals", () => {
  test.each(table)("%s", async (_, config, message) => {
    expect(`\n${await refused(config)}`).toBe(message);
  });

  test("a place that is no model directory", async () => {
    const at = (path: string) => refusal(Promise.resolve().then(() => readModelDirectory(path)));
    expect(await at("/nowhere/llama")).toBe(
      "there is no directory /nowhere/llama\n" +
        "  `model` is a Hugging Face directory on this machine; `hf download NAME --local-dir DIR` makes one.",
    );
    const empty = directory({ "my.ts": "" });
    expect(await at(empty)).toBe(`${empty} has no config.json\n  Is it a Hugging Face model directory?`);
    expect(await at(join(empty, "my.ts"))).toBe(
      `${empty}/my.ts is a file\n  Write a definition of your own as: model: { source: my-model.ts, config: { ... } }`,
    );
  });

  test("weights in other formats", async () => {
    expect(await refused(LLAMA, { "pytorch_model.bin": "" })).toBe(
      "DIR has its weights in PyTorch's pickle format\n" +
        "  Load it with transformers and save_pretrained it again: that writes safetensors.",
    );
    expect(await refused(LLAMA, { "model-00001-of-00002.safetensors": "" })).toBe(
      "DIR has model-00001-of-00002.safetensors but neither model.safetensors nor model.safetensors.index.json\n" +
        "  Copy the index beside the weights, or name a single file model.safetensors.",
    );
  });
});

/** @file The shipped definitions: their graphs as text (BLESS=1 writes them anew), and their names against real weights. */
import { readFileSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { lowerDefinition, type Model, readModelDirectory } from "../../src/frontend/index.ts";
import type { Graph } from "../../src/ir/graph.ts";
import { parse } from "../../src/ir/parse.ts";
import { print } from "../../src/ir/print.ts";
import { sizesOf } from "../../src/ir/type.ts";
import { verify } from "../../src/ir/verify.ts";

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));
const golden = (name: string): Model => readModelDirectory(path(`../golden/${name}/model`));

function lower(model: Model, changes: object = {}): Promise<Graph> {
  const name = basename(model.file, ".ts");
  return lowerDefinition({ ...model, config: { ...model.config, ...changes }, name, batch: 2, sequence: 8 });
}

/** Names and shapes of all tensors of safetensors files. */
function tensorsOf(files: readonly string[]): Map<string, string> {
  const tensors = new Map<string, string>();
  for (const file of files) {
    const bytes = readFileSync(file);
    const header = JSON.parse(bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE(0))).toString());
    for (const [name, { shape }] of Object.entries<{ shape: number[] }>(header)) {
      if (name !== "__metadata__") tensors.set(name, shape.join(", "));
    }
  }
  return tensors;
}

/** Names and shapes of all parameters, families unrolled. */
function parametersOf(graph: Graph): Map<string, string> {
  return new Map(
    graph.params
      .filter(({ role }) => role === "param")
      .flatMap(({ value }) =>
        Array.from({ length: value.type.times ?? 1 }, (_, i): [string, string] => [
          value.name.replace("*", String(i)),
          sizesOf(value.type).join(", "),
        ]),
      ),
  );
}

describe.each(["llama", "llama-tied", "mistral", "qwen2", "qwen3"])("%s", (name) => {
  test("its graph", async () => {
    const graph = await lower(golden(name));
    const text = print(graph);
    const file = path(`./${name}.ir`);
    if (process.env.BLESS) writeFileSync(file, text);
    expect(text).toBe(readFileSync(file, "utf8"));
    expect(print(parse(text, file))).toBe(text);
    expect(verify(graph)).toEqual([]);
  });

  test("its parameters are those that transformers saved", async () => {
    const model = golden(name);
    const saved = [...tensorsOf(model.weights)].sort();
    expect([...parametersOf(await lower(model))].sort()).toEqual(saved);
  });
});

test("biases of Llama", async () => {
  const graph = await lower(golden("llama"), { attention_bias: true, mlp_bias: true });
  const biases = graph.params.filter(({ value }) => value.name.endsWith(".bias"));
  expect(biases.map(({ value, init }) => `${value.name.slice("model.layers.*.".length)} ${init}`)).toEqual([
    "self_attn.q_proj.bias zeros",
    "self_attn.k_proj.bias zeros",
    "self_attn.v_proj.bias zeros",
    "self_attn.o_proj.bias zeros",
    "mlp.gate_proj.bias zeros",
    "mlp.up_proj.bias zeros",
    "mlp.down_proj.bias zeros",
  ]);
});

test("windows on some layers of Qwen2 write the layers out", async () => {
  const graph = await lower(golden("qwen2"), {
    sliding_window: 4,
    layer_types: ["full_attention", "sliding_attention", "sliding_attention"],
  });
  const attentions = graph.nodes.filter((node) => node.op === "attention");
  expect(attentions.map((node) => node.attrs.window)).toEqual([0, 4, 4]);
  expect(verify(graph)).toEqual([]);
});

test.each([
  ["gelu_pytorch_tanh", "gelu"],
  ["relu", "relu"],
])("%s", async (hidden_act, op) => {
  const graph = await lower(golden("llama"), { hidden_act });
  const body = graph.nodes.find((node) => node.op === "repeat")?.body;
  expect(body?.nodes.map((node) => node.op)).toContain(op);
});

test("weights begin as the configuration says", async () => {
  const graph = await lower(golden("llama"), { initializer_range: 0.5 });
  expect(new Set(graph.params.map(({ init }) => init))).toEqual(new Set(["", "normal 0.5", "ones"]));
});

test("80 layers of Llama 70B are lowered in a second", async () => {
  const config = {
    hidden_size: 8192,
    intermediate_size: 28672,
    num_hidden_layers: 80,
    num_attention_heads: 64,
    num_key_value_heads: 8,
    head_dim: 128,
    vocab_size: 128256,
  };
  const model = golden("llama");
  await lower(model);
  const start = performance.now();
  const graph = await lower(model, config);
  const elapsed = performance.now() - start;
  expect(graph.params.find(({ value }) => value.type.times !== null)?.value.type.times).toBe(80);
  // 0.2 s on an idle core; machines that run other things at the same time are slower.
  expect(elapsed).toBeLessThan(3000);
});

/** @file Parts of a graph as graphs: a layer, a module, lines; at every stage they parse, verify and compute what the whole does. */
import { describe, expect, test } from "vitest";
import type { NDArray } from "../../src/ir/array.ts";
import { allNodes, type Graph } from "../../src/ir/graph.ts";
import { interpret } from "../../src/ir/interpret.ts";
import { parse } from "../../src/ir/parse.ts";
import { print } from "../../src/ir/print.ts";
import { sampleArrays } from "../../src/ir/sample.ts";
import { verify } from "../../src/ir/verify.ts";
import { trainingPipeline } from "../../src/passes/pipeline.ts";
import { runPipeline, type Stage } from "../../src/passes/run.ts";
import { excerpt, type Wanted } from "../../src/plan/excerpt.ts";
import { TRAINING } from "../support/decoders.ts";

const text = `graph small mesh(sp=2) {
  input %ids : i32[1, 8]
  input %labels : i32[1, 8]
  input %segments : i32[1, 8]
  param %embed.weight : f32[5, 4]
  param %layers.*.norm.weight : 3 x f32[4]
  param %layers.*.mlp.up.weight : 3 x f32[6, 4]
  param %layers.*.mlp.down.weight : 3 x f32[4, 6]
  param %head.weight : f32[5, 4]
  %h = embedding %ids, %embed.weight : f32[1, 8, 4] ; m.ts:1
  %h.1 = repeat %h, %layers.*.norm.weight, %layers.*.mlp.up.weight, %layers.*.mlp.down.weight times=3 carry=1 : f32[1, 8, 4] { ; m.ts:2
    param %x : f32[1, 8, 4]
    param %norm.weight : f32[4]
    param %up.weight : f32[6, 4]
    param %down.weight : f32[4, 6]
    %norm = rms_norm %x, %norm.weight : f32[1, 8, 4] ; m.ts:10
    %up = matmul %norm, %up.weight transpose_b=true : f32[1, 8, 6] ; m.ts:20
    %act = silu %up : f32[1, 8, 6] ; m.ts:25
    %down = matmul %act, %down.weight transpose_b=true : f32[1, 8, 4] ; m.ts:21
    %y = add %x, %down : f32[1, 8, 4] ; m.ts:11
    return %y
  }
  %logits = matmul %h.1, %head.weight transpose_b=true : f32[1, 8, 5] ; m.ts:3
  %loss, %count, %lse = cross_entropy %logits, %labels : f32[], i32[], f32[1, 8] ; m.ts:4
  return loss_sum = %loss
  return loss_count = %count
}
`;

const stagesOf = (options: object): Stage[] =>
  runPipeline(parse(text), trainingPipeline({ ...TRAINING, ...options }));
const behind = (stages: readonly Stage[], pass: string): Graph =>
  (stages.find((stage) => stage.pass === pass) as Stage).graph;
const plain = stagesOf({});
const statements = (graph: Graph): string[] =>
  graph.nodes.map(({ results, op }) => `${results.map(({ name }) => name).join(" ")} = ${op}`);

const everything: [string, object, Wanted][] = (
  [
    ["plainly", {}],
    ["with checkpoints", { checkpointing: "layer" }],
    ["with micro batches", { gradientAccumulationSteps: 2 }],
    ["with tiles", { mlpTiles: 2, lossTiles: 2 }],
    ["in bf16", { precision: "bf16" }],
  ] as const
).flatMap(([how, options]) =>
  [
    { layer: 1 },
    { module: "mlp" },
    { module: "layers.1.mlp" },
    { layer: 2, module: "m.ts:20-25" },
    { module: "head" },
  ].map((wanted): [string, object, Wanted] => [`${how} ${JSON.stringify(wanted)}`, options, wanted]),
);

test.each(everything)("%s: a part of every stage reads back and verifies", (_how, options, wanted) => {
  for (const { pass, graph } of stagesOf(options)) {
    const part = excerpt(graph, wanted);
    expect(part.nodes.length, pass).toBeGreaterThan(0);
    expect(parse(print(part), pass), pass).toEqual(part);
    expect(verify(part, ["typed"]), pass).toEqual([]);
  }
});

test("a part computes what the whole does there", () => {
  for (const [pass, wanted] of [
    ["fuse", { layer: 1 }],
    ["fuse", { module: "layers.2.mlp" }],
    ["differentiate", { layer: 0 }],
  ] as const) {
    const graph = behind(plain, pass);
    const arrays = sampleArrays([graph], 3);
    const values = new Map<string, NDArray>(arrays);
    interpret(graph, arrays, { watch: (path, _value, [array]) => void values.set(path, array) });
    const part = excerpt(graph, wanted);
    const { outputs } = interpret(part, values);
    expect(outputs.size).toBeGreaterThan(0);
    for (const { name, value } of part.outputs)
      expect(outputs.get(name), name).toEqual(values.get(value.name));
  }
});

describe("a layer", () => {
  test("is the body before unroll, its weights with their roles", () => {
    const part = excerpt(behind(plain, "shard"), { layer: 2 });
    expect(statements(part)).toEqual([
      "norm = rms_norm",
      "up = matmul",
      "act = silu",
      "down = matmul",
      "y = add",
    ]);
    expect(part.params.map(({ role, value }) => `${role} ${value.name}`)).toEqual([
      "input x",
      "param norm.weight",
      "param up.weight",
      "param down.weight",
    ]);
    expect(part.outputs.map(({ name }) => name)).toEqual(["h.1"]);
  });
  test("is forward, backward and update afterwards", () => {
    const part = excerpt(behind(plain, "optimizer"), { layer: 1 });
    const names = statements(part);
    expect(names).toContain("L1.up = matmul");
    expect(names.some((name) => /^d\.L1\.up.* = /.test(name))).toBe(true);
    expect(part.nodes.filter(({ op }) => op === "adamw")).toHaveLength(3);
    expect(part.updates.map(({ param }) => param.name)).toContain("layers.1.norm.weight");
    expect(print(part)).not.toMatch(/= .*\n.*%L2\.\S+ = |%L0\.\S+ = /);
  });
  test("is what is recomputed as one, with its backward, too", () => {
    const graph = behind(stagesOf({ checkpointing: "layer" }), "fuse");
    const ops = excerpt(graph, { layer: 1 }).nodes.map(({ op }) => op);
    expect(ops.filter((op) => op === "checkpoint")).toHaveLength(2);
    expect(ops.filter((op) => op === "adamw")).toHaveLength(3);
  });
  test("is inside the loop over micro batches", () => {
    const graph = behind(stagesOf({ gradientAccumulationSteps: 2 }), "fuse");
    expect(statements(excerpt(graph, { layer: 0 }))).toContain("L0.act = silu");
  });
});

describe("a module", () => {
  test("is what reads its weights and what lies between", () => {
    const part = excerpt(plain[0].graph, { module: "mlp" });
    expect(statements(part)).toEqual(["up = matmul", "act = silu", "down = matmul"]);
    expect(part.outputs.map(({ name }) => name)).toEqual(["down"]);
  });
  test("of one layer has the gradients of its lines and none of another layer's", () => {
    const part = excerpt(behind(plain, "fuse"), { module: "layers.1.mlp" });
    const made = allNodes(part.nodes).flatMap(({ results }) => results.map(({ name }) => name));
    expect(made).toContain("d.layers.1.mlp.up.weight");
    expect(made.filter((name) => /L[02]\.|layers\.[02]\./.test(name))).toEqual([]);
  });
  test("of all layers is all of them, and not what lies between two", () => {
    const part = excerpt(behind(plain, "unroll"), { module: "mlp" });
    expect(statements(part)).toEqual(
      [0, 1, 2].flatMap((i) => [`L${i}.up = matmul`, `L${i}.act = silu`, `L${i}.down = matmul`]),
    );
  });
  test("is what reads a cast of its weights as well", () => {
    const part = excerpt(behind(stagesOf({ precision: "bf16" }), "precision"), { module: "mlp" });
    const ops = part.nodes.map(({ op }) => op);
    expect(ops.filter((op) => op !== "cast")).toEqual(["matmul", "silu", "matmul"]);
    expect(ops.filter((op) => op === "cast")).toHaveLength(2);
  });
  test("is as small as its path is long", () => {
    expect(statements(excerpt(plain[0].graph, { module: "mlp.down" }))).toEqual(["down = matmul"]);
    expect(statements(excerpt(plain[0].graph, { module: "layers.*.norm" }))).toEqual(["norm = rms_norm"]);
  });
  test("has the exchanges that serve it alone", () => {
    const gathered = text
      .replace("%labels : i32[1, 8]", "%labels : i32[1, 8@sp]")
      .replace("input %ids : i32[1, 8]", "input %ids : i32[1, 8@sp]")
      .replace(
        "%logits = matmul %h.1,",
        "%all = all_gather %h.1 axis=sp dim=1 : f32[1, 8, 4] ; m.ts:3\n  %logits = matmul %all,",
      )
      .replaceAll("f32[1, 8, 4]", "f32[1, 8@sp, 4]")
      .replaceAll("f32[1, 8, 6]", "f32[1, 8@sp, 6]")
      .replace("dim=1 : f32[1, 8@sp, 4]", "dim=1 : f32[1, 8, 4]")
      .replace("%labels : i32[1, 8@sp]", "%labels : i32[1, 8]");
    expect(statements(excerpt(parse(gathered), { module: "head" }))).toEqual([
      "all = all_gather",
      "logits = matmul",
    ]);
  });
});

describe("what is not there", () => {
  const refusal =
    (wanted: Wanted, pass = "input") =>
    () =>
      excerpt(behind(plain, pass), wanted);
  test("is named, with what there is", () => {
    const layers = { message: "there is no layer 3 in small", remedy: "Its layers are 0 to 2." };
    expect(refusal({ layer: 3 })).toThrow(expect.objectContaining(layers));
    expect(refusal({ layer: 3 }, "fuse")).toThrow(expect.objectContaining(layers));
    expect(refusal({ module: "mpl" })).toThrow(
      expect.objectContaining({
        message: "there is no module mpl in small",
        remedy:
          "A module is a path of parameters, or lines such as llama.ts:90-104. Paths are embed, layers.*.norm, layers.*.mlp.up, layers.*.mlp.down, head.",
      }),
    );
    expect(refusal({ module: "m.ts:77" })).toThrow("there is no module m.ts:77");
  });
});

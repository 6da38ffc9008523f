/** @file Loops over layers become `repeat` however they are written, and only where that changes nothing. */
import { describe, expect, test } from "vitest";
import type { NDArray } from "../../src/ir/array.ts";
import type { Graph } from "../../src/ir/graph.ts";
import { interpret } from "../../src/ir/interpret.ts";
import { parse } from "../../src/ir/parse.ts";
import { print } from "../../src/ir/print.ts";
import { sizesOf } from "../../src/ir/type.ts";
import { verify } from "../../src/ir/verify.ts";
import { definition, lowered, type Parts } from "./lowering.ts";

const LAYER = `class Layer extends Module { proj = new Linear(8, 8, { bias: false }); forward(x: Tensor): Tensor { return add(x, silu(this.proj.forward(x))); } }`;
const BUILD = "this.layers = Array.from({ length: config.depth }, () => new Layer());";
const layers = (forward: string, more: Parts = {}): string =>
  definition({ top: LAYER, fields: "layers: Layer[];", build: BUILD, ...more, forward });

const repeats = (graph: Graph) => graph.nodes.filter((node) => node.op === "repeat");
const names = (graph: Graph) =>
  graph.params.filter(({ role }) => role === "param").map(({ value }) => value.name);

describe("a loop over equal layers is rolled up", () => {
  test.each([
    ["for of", "for (const layer of this.layers) h = layer.forward(h);"],
    ["for with an index", "for (let i = 0; i < this.layers.length; i++) h = this.layers[i].forward(h);"],
    ["while", "let i = 0; while (i < this.layers.length) { h = this.layers[i].forward(h); i += 1; }"],
    ["entries", "for (const [, layer] of this.layers.entries()) { h = layer.forward(h); }"],
    ["reduce", "h = this.layers.reduce((x, layer) => layer.forward(x), h);"],
    ["forEach", "this.layers.forEach((layer) => { h = layer.forward(h); });"],
  ])("%s", async (_, forward) => {
    const graph = await lowered(layers(forward));
    expect(names(graph)).toEqual(["embed.weight", "head.weight", "layers.*.proj.weight"]);
    expect(repeats(graph).map((node) => node.attrs)).toEqual([{ times: 3, carry: 1 }]);
    expect(verify(graph)).toEqual([]);
    expect(print(parse(print(graph), "tiny.ir"))).toBe(print(graph));
  });

  test("several tensors are carried, and others are given to each iteration", async () => {
    const graph = await lowered(
      layers(
        "let sum = h; const h0 = h; for (const layer of this.layers) { h = layer.forward(h); sum = add(sum, mul(h, h0)); } h = sum;",
      ),
    );
    expect(repeats(graph)[0].attrs).toEqual({ times: 3, carry: 2 });
    expect(repeats(graph)[0].operands.map(({ name }) => name)).toEqual([
      "h",
      "h",
      "layers.*.proj.weight",
      "h",
    ]);
  });

  test("a parameter that all layers share stays one", async () => {
    const graph = await lowered(
      layers("for (const layer of this.layers) h = layer.forward(mul(h, this.gain));", {
        fields: "layers: Layer[]; gain: Tensor;",
        build: `${BUILD} this.gain = parameter([8], "ones");`,
      }),
    );
    expect(names(graph)).toContain("gain");
    expect(repeats(graph)[0].body?.params.map(({ name }) => name)).toEqual(["h", "proj.weight", "gain"]);
  });

  test("two loops over the same layers use the same families", async () => {
    const graph = await lowered(
      layers(
        "for (const layer of this.layers) h = layer.forward(h); for (const layer of this.layers) h = layer.forward(h);",
      ),
    );
    expect(repeats(graph)).toHaveLength(2);
    expect(names(graph)).toContain("layers.*.proj.weight");
  });

  test("of nested loops the outer one", async () => {
    const graph = await lowered(
      definition({
        top: `${LAYER}\nclass Group extends Module { inner = [new Layer(), new Layer()]; forward(x: Tensor): Tensor { for (const layer of this.inner) x = layer.forward(x); return x; } }`,
        fields: "groups = [new Group(), new Group(), new Group()];",
        forward: "for (const group of this.groups) h = group.forward(h);",
      }),
    );
    expect(names(graph)).toContain("groups.*.inner.1.proj.weight");
    expect(repeats(graph).map((node) => node.attrs.times)).toEqual([3]);
  });

  test("an inner loop, where the outer one can't be", async () => {
    const graph = await lowered(
      definition({
        top: `${LAYER}\nclass Group extends Module { inner = [new Layer(), new Layer()]; forward(x: Tensor): Tensor { for (const layer of this.inner) x = layer.forward(x); return x; } }`,
        fields: "groups = [new Group(), new Group()];",
        forward:
          "for (const [i, group] of this.groups.entries()) h = scale(group.forward(h), { by: i + 1 });",
      }),
    );
    expect(names(graph)).toContain("groups.0.inner.*.proj.weight");
    expect(repeats(graph)).toHaveLength(2);
  });
});

describe("a loop is written out where iterations differ", () => {
  test.each([
    [
      "an attribute",
      "for (const [i, layer] of this.layers.entries()) h = scale(layer.forward(h), { by: i + 1 });",
    ],
    [
      "the number of nodes",
      "for (const [i, layer] of this.layers.entries()) { h = layer.forward(h); if (i === 1) h = silu(h); }",
    ],
    ["the order of the layers", "for (const i of [1, 0, 2]) h = this.layers[i].forward(h);"],
    [
      "not all layers",
      "for (const layer of this.layers.slice(0, 2)) h = layer.forward(h); h = this.layers[2].forward(h);",
    ],
    [
      "a layer used by itself too",
      "for (const layer of this.layers) h = layer.forward(h); h = this.layers[0].forward(h);",
    ],
    [
      "every layer uses the weight of one",
      "for (const layer of this.layers) h = matmul(layer.forward(h), this.layers[1].proj.weight);",
    ],
    [
      "what an iteration made is used later",
      "const all: Tensor[] = []; for (const layer of this.layers) { h = layer.forward(h); all.push(h); } h = add(h, all[0]);",
    ],
    [
      "a value from two iterations before",
      "let a = h; let b = h; for (const layer of this.layers) { const c = add(a, layer.forward(b)); a = b; b = c; } h = b;",
    ],
  ])("%s", async (_, forward) => {
    const graph = await lowered(layers(forward));
    expect(repeats(graph)).toEqual([]);
    expect(names(graph)).toEqual([
      "embed.weight",
      "head.weight",
      "layers.0.proj.weight",
      "layers.1.proj.weight",
      "layers.2.proj.weight",
    ]);
    expect(verify(graph)).toEqual([]);
  });

  test("some layers begin differently", async () => {
    const top = `class Layer extends Module { w: Tensor; constructor(i: number) { super(); this.w = parameter([8], i === 0 ? "ones" : "zeros"); } forward(x: Tensor): Tensor { return mul(x, this.w); } }`;
    const graph = await lowered(
      layers("for (const layer of this.layers) h = layer.forward(h);", {
        top,
        build: "this.layers = [0, 1, 2].map((i) => new Layer(i));",
      }),
    );
    expect(repeats(graph)).toEqual([]);
  });
});

/** Arrays for all inputs and parameters; those of a family are its members' in order. */
function arraysOf(graph: Graph, weights: (name: string, at: number) => number): Map<string, NDArray> {
  return new Map(
    graph.params.map(({ role, value }) => {
      const sizes =
        value.type.times === null ? sizesOf(value.type) : [value.type.times, ...sizesOf(value.type)];
      const total = sizes.reduce((product, size) => product * size, 1);
      const each = total / (value.type.times ?? 1);
      const data = Float64Array.from({ length: total }, (_, at) => {
        if (role === "input") return value.name === "segments" ? 0 : at + 1;
        return weights(value.name.replace("*", String(Math.floor(at / each))), at % each);
      });
      return [value.name, { sizes, data }];
    }),
  );
}

test("rolled up and written out, a model computes the same", async () => {
  const loop =
    "const h0 = h; let sum = h; for (const layer of this.layers) { sum = add(sum, h); h = add(layer.forward(h), mul(sum, h0)); }";
  const first = "const h0 = h; let sum = h; const [a, b, c] = this.layers; ";
  const by = (name: string) => `sum = add(sum, h); h = add(${name}.forward(h), mul(sum, h0)); `;
  const rolled = await lowered(layers(loop));
  const flat = await lowered(layers(first + by("a") + by("b") + by("c")));
  expect(repeats(rolled)).toHaveLength(1);
  expect(repeats(flat)).toHaveLength(0);
  const weights = (name: string, at: number): number =>
    Math.sin([...name].reduce((code, letter) => (code * 31 + letter.charCodeAt(0)) % 997, 7) + at * 0.7);
  const [a, b] = [rolled, flat].map((graph) =>
    interpret(graph, arraysOf(graph, weights)).outputs.get("loss_sum"),
  );
  expect(a?.data[0]).toBeGreaterThan(1);
  expect(a).toEqual(b);
});

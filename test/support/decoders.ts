/** @file Small random decoders: forward graphs as the frontend makes them, drawn by fast-check. */
import * as fc from "fast-check";
import type { NDArray } from "../../src/ir/array.ts";
import { Builder, building } from "../../src/ir/build.ts";
import type { Graph, Value } from "../../src/ir/graph.ts";
import { ops, recordOf } from "../../src/ir/ops/index.ts";
import { print } from "../../src/ir/print.ts";
import { type Mesh, memberOf, tensor } from "../../src/ir/type.ts";
import { DEFAULTS, type TrainingOptions } from "../../src/passes/pipeline.ts";
import { type Fill, filled } from "./random.ts";

const BLOCKS = [
  "norm",
  "linear",
  "shared linear",
  "mlp",
  "attention",
  "add",
  "mul",
  "silu",
  "gelu",
  "tanh",
  "scale",
  "bias",
  "gate",
  "halves",
  "turned",
  "tile",
  "layers",
  "attention layers",
  "checkpoint",
] as const;

/** What a decoder is made of. Equal recipes give equal graphs. */
export interface Recipe {
  readonly batch: number;
  readonly sequence: number;
  readonly kvHeads: number;
  readonly group: number;
  readonly headDim: number;
  readonly vocabulary: number;
  readonly tied: boolean;
  readonly causal: boolean;
  readonly window: number;
  readonly unused: boolean;
  readonly blocks: readonly {
    readonly kind: (typeof BLOCKS)[number];
    readonly a: number;
    readonly b: number;
  }[];
}

export const recipes: fc.Arbitrary<Recipe> = fc.record({
  batch: fc.integer({ min: 1, max: 2 }),
  sequence: fc.constantFrom(3, 4, 6),
  kvHeads: fc.integer({ min: 1, max: 2 }),
  group: fc.integer({ min: 1, max: 2 }),
  headDim: fc.constantFrom(2, 4),
  vocabulary: fc.integer({ min: 3, max: 7 }),
  tied: fc.boolean(),
  causal: fc.boolean(),
  window: fc.constantFrom(0, 0, 2),
  unused: fc.boolean(),
  blocks: fc.array(
    fc.record({ kind: fc.constantFrom(...BLOCKS), a: fc.nat({ max: 7 }), b: fc.nat({ max: 7 }) }),
    { maxLength: 6 },
  ),
});

/** The plainest decoder, to build on. */
export const PLAIN: Recipe = {
  batch: 1,
  sequence: 4,
  kvHeads: 1,
  group: 2,
  headDim: 2,
  vocabulary: 5,
  tied: true,
  causal: true,
  window: 0,
  unused: false,
  blocks: [],
};

/** Layers of attention, an MLP by itself, and a block that is computed again. */
export const MIXED: Recipe["blocks"] = (["attention layers", "mlp", "checkpoint"] as const).map((kind) => ({
  kind,
  a: 0,
  b: 0,
}));

/** What a training run asks of the passes where a test doesn't say. */
export const TRAINING: TrainingOptions = { ...DEFAULTS, lossTiles: 1 };

/** Runs `body` on the graph of a recipe; a failure shows the graph's text, ready for a fixture. */
export function onGraph(recipe: Recipe, body: (graph: Graph) => void): void {
  const graph = decoder(recipe);
  try {
    body(graph);
  } catch (error) {
    const { message, stack } = error as Error;
    throw Object.assign(new Error(`${message}\n\n${print(graph)}`), { stack });
  }
}

/** The forward graph of a recipe, with outputs loss_sum and loss_count. */
export function decoder(recipe: Recipe, mesh: Mesh = new Map()): Graph {
  const { batch, sequence, vocabulary, tied, unused } = recipe;
  const builder = new Builder(mesh);
  const width = recipe.kvHeads * recipe.group * recipe.headDim;
  const rows = tensor("i32", [batch, sequence]);
  const [ids, labels, positions, segments] = ["input_ids", "labels", "position_ids", "segments"].map((name) =>
    builder.param("input", name, rows),
  );
  const weight = (name: string, ...sizes: number[]): Value =>
    builder.param("param", `${name}.weight`, tensor("f32", sizes), "normal 0.02");
  const loss = building(builder, () => {
    const table = weight("embed", vocabulary, width);
    if (unused) weight("unused", 3);
    const pool = [ops.embedding(ids, table, {}, { name: "h" })];
    const parts: Parts = { recipe, builder, weight, pool, positions, segments, width };
    for (const [i, { kind, a, b }] of recipe.blocks.entries()) {
      builder.loc = `model.ts:${i + 1}`;
      builder.serving = kind.replace(" ", "_");
      const pick = (at: number) => pool[pool.length - 1 - (at % pool.length)];
      pool.push(block(kind, i, pick(a), pick(b), parts));
    }
    builder.loc = "model.ts:99";
    const last = ops.rms_norm(pool[pool.length - 1], weight("norm", width), {}, { name: "last" });
    const head = tied ? table : weight("head", vocabulary, width);
    const logits = ops.matmul(last, head, { transpose_b: true }, { name: "logits" });
    return ops.cross_entropy(logits, labels, {}, { name: ["loss", "count", "lse"] });
  });
  return {
    name: "decoder",
    mesh,
    params: builder.params,
    nodes: builder.nodes,
    outputs: [
      { name: "loss_sum", value: loss[0] },
      { name: "loss_count", value: loss[1] },
    ],
    updates: [],
  };
}

interface Parts {
  readonly recipe: Recipe;
  readonly builder: Builder;
  readonly weight: (name: string, ...sizes: number[]) => Value;
  readonly pool: readonly Value[];
  readonly positions: Value;
  readonly segments: Value;
  readonly width: number;
}

const linear = (x: Value, w: Value): Value => ops.matmul(x, w, { transpose_b: true });

function block(kind: (typeof BLOCKS)[number], i: number, x: Value, y: Value, parts: Parts): Value {
  const { weight, width, builder, recipe } = parts;
  const name = `blocks.${i}`;
  switch (kind) {
    case "norm":
      return ops.rms_norm(x, weight(name, width));
    case "linear":
      return linear(x, weight(name, width, width));
    case "shared linear": {
      const w = weight(name, width, width);
      return linear(linear(x, w), w);
    }
    case "mlp": {
      const [gate, up, down] = ["gate", "up", "down"].map((part) =>
        part === "down" ? weight(`${name}.down`, width, 5) : weight(`${name}.${part}`, 5, width),
      );
      return linear(ops.swiglu(linear(x, gate), linear(x, up)), down);
    }
    case "attention":
      return attentionBlock(name, x, parts);
    case "add":
      return ops.add(x, y);
    case "mul":
      return ops.mul(x, y);
    case "silu":
      return ops.silu(x);
    case "gelu":
      return ops.gelu(x);
    case "tanh":
      return ops.tanh(x);
    case "scale":
      return ops.scale(x, { by: 0.5 });
    case "bias":
      return ops.add(x, weight(name, width));
    case "gate":
      return ops.div(ops.mul(ops.sigmoid(x), y), ops.exp(ops.tanh(y)));
    case "halves": {
      const length = width / 2;
      const [low, high] = [0, length].map((start) => ops.slice(x, { dim: 2, start, length }));
      return ops.concat([ops.neg(high), low], { dim: 2 });
    }
    case "turned":
      return ops.transpose(ops.silu(ops.transpose(x, { order: [2, 0, 1] })), { order: [1, 2, 0] });
    case "tile":
      return tileBlock(name, x, parts);
    case "layers":
      return layers(name, x, parts, (h, w) => ops.add(h, linear(ops.silu(h), w)));
    case "attention layers": {
      const [b, s] = [recipe.batch, recipe.sequence];
      const none = ops.constant({ dims: [b, s], dtype: "i32" });
      return layers(
        name,
        x,
        parts,
        (h, w, segments: Value) => {
          const q = ops.split_heads(linear(h, w), { heads: recipe.kvHeads });
          return ops.add(h, ops.merge_heads(ops.attention(q, q, q, segments)[0]));
        },
        none,
      );
    }
    case "checkpoint": {
      const w = weight(name, width, width);
      const { body } = region(builder, [x, w], ([h, own]) => [ops.mul(h, ops.gelu(linear(h, own)))]);
      return builder.add(recordOf("checkpoint"), [x, w], {}, { body }).results[0];
    }
    default:
      throw new Error(`${recipe.batch}: ${kind} is not a block`);
  }
}

/** A body with parameters like `operands`. */
function region(
  builder: Builder,
  operands: readonly Value[],
  make: (params: readonly Value[]) => readonly Value[],
) {
  const inner = new Builder(builder.mesh);
  const params = operands.map(({ type }, i) => ({ name: inner.unique(`p${i}`), type: memberOf(type) }));
  const returns = building(inner, () => make(params));
  return { body: inner.region(params, returns) };
}

/** Two layers that share their code and have each its own weight. */
function layers(
  name: string,
  x: Value,
  { builder, width }: Parts,
  layer: (h: Value, w: Value, ...others: readonly Value[]) => Value,
  ...others: readonly Value[]
): Value {
  const type = { ...tensor("f32", [width, width]), times: 2 };
  const family = builder.param("param", `${name}.*.weight`, type, "normal 0.02");
  const operands = [x, family, ...others];
  const { body } = region(builder, operands, ([h, w, ...rest]) => [layer(h, w, ...rest)]);
  return builder.add(recordOf("repeat"), operands, { times: 2, carry: 1 }, { body }).results[0];
}

function attentionBlock(
  name: string,
  x: Value,
  { recipe, weight, positions, segments, width }: Parts,
): Value {
  const { kvHeads, group, headDim, causal, window } = recipe;
  const [cos, sin] = ops.rope_table(positions, { head_dim: headDim, theta: 100 });
  const project = (part: string, heads: number): Value =>
    ops.split_heads(linear(x, weight(`${name}.${part}`, heads * headDim, width)), { heads });
  const q = ops.rope(project("q", kvHeads * group), cos, sin);
  const k = ops.rope(project("k", kvHeads), cos, sin);
  const [out] = ops.attention(q, k, project("v", kvHeads), segments, {
    causal,
    window,
    scale: headDim ** -0.5,
  });
  return linear(ops.merge_heads(out), weight(`${name}.o`, width, width));
}

/** A small MLP over parts of the tokens. The scheduler wants one row in front of the dimension that is cut. */
function tileBlock(name: string, x: Value, { recipe, builder, weight, width }: Parts): Value {
  const dim = recipe.batch === 1 ? 1 : 0;
  const size = x.type.dims[dim].size;
  // Uneven parts only where they can be: a batch of 2 has no smaller last row.
  const part = dim === 1 && recipe.group === 2 ? size - 1 : size % 2 === 0 ? size / 2 : 1;
  const tiles = Math.ceil(size / part);
  const rest = size % part;
  const w = weight(name, width, width);
  const sizes = x.type.dims.map((own, d) => (d === dim ? part : own.size));
  const inner = new Builder(builder.mesh, ["x", "w"]);
  const params = [
    { name: "x", type: tensor("f32", sizes) },
    { name: "w", type: w.type },
  ];
  const out = building(inner, () => ops.silu(linear(params[0], params[1])));
  const body = inner.region(params, [out]);
  const attrs = { tiles, rest, split: [dim, -1], join: [dim] };
  return builder.add(recordOf("tile"), [x, w], attrs, { body }).results[0];
}

/** Arrays for every parameter of a training graph, by what its name says. */
export function arraysFor(graph: Graph, seed = 3): Map<string, NDArray> {
  const vocabulary =
    graph.params.find(({ value }) => value.name === "embed.weight")?.value.type.dims[0].size ?? 2;
  const fills: Record<string, Fill> = {
    input_ids: { below: vocabulary },
    labels: { labels: vocabulary },
    position_ids: "positions",
    segments: "segments",
    learning_rate: { value: 0.01 },
    step: { value: 2 },
  };
  return new Map(
    graph.params.map(({ value: { name, type } }) => {
      const fill = fills[name] ?? (name.startsWith("adamw.v.") ? "positive" : "normal");
      const number = [...name].reduce((sum, letter) => sum * 31 + letter.charCodeAt(0), seed) % 2 ** 31;
      return [name, filled(type, fill, number)];
    }),
  );
}

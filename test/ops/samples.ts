/**
 * @file Samples of every op: operand types, attributes, and how operands are filled. The conformance tests know nothing else.
 *
 * A type `f[3, 5]` has the element type under test (float64 where an op is evaluated; f32 and bf16 where its kernel is);
 * `f32[3, 5]` keeps its own. Sizes are odd where kernels may cut blocks; at least one sample of each op has sizes that
 * are multiples of four, for layouts.
 */
import type { Attrs, Value } from "../../src/ir/graph.ts";
import { type OpName, ops } from "../../src/ir/ops/index.ts";
import { sizesOf } from "../../src/ir/type.ts";
import type { Fill } from "../support/random.ts";

/** An operand that is another op's result, such as attention's log-sum-exp in its gradient. */
export interface Made {
  readonly of: OpName;
  readonly result: number;
  /** Which operands of this sample that op takes. */
  readonly operands: readonly number[];
}

export interface Sample {
  readonly types: readonly string[];
  /** A string "f" stands for the element type under test. */
  readonly attrs?: Partial<Attrs>;
  /** By operand; normal numbers where nothing is said. */
  readonly fill?: readonly (Fill | Made)[];
  /** Mesh for ops that move layouts; their types are laid out by hand. */
  readonly mesh?: Readonly<Record<string, number>>;
  /** Body of an op that has one: what it returns for its parameters. */
  readonly body?: (params: readonly Value[]) => readonly Value[];
}

const unary = (fill: Fill = "normal"): readonly Sample[] => [
  { types: ["f[4, 8]"], fill: [fill] },
  { types: ["f[3, 5, 7]"], fill: [fill] },
  { types: ["f[]"], fill: [fill] },
];

const binary = (a: Fill = "normal", b: Fill = "normal"): readonly Sample[] => [
  { types: ["f[4, 8]", "f[4, 8]"], fill: [a, b] },
  { types: ["f[4, 4, 8]", "f[8]"], fill: [a, b] },
  { types: ["f[8]", "f[4, 4, 8]"], fill: [a, b] },
  { types: ["f[3, 5, 7]", "f[5, 7]"], fill: [a, b] },
  { types: ["f[3, 7]", "f[]"], fill: [a, b] },
];

const gradOf = (fill: Fill = "normal"): readonly Sample[] => [
  { types: ["f[4, 8]", "f[4, 8]"], fill: [fill] },
  { types: ["f[3, 5, 7]", "f[3, 5, 7]"], fill: [fill] },
];

const attentionTypes = (b: number, s: number, h: number, g: number, d: number): string[] => [
  `f[${b}, ${s}, ${h}, ${d}]`,
  `f[${b}, ${s}, ${g}, ${d}]`,
  `f[${b}, ${s}, ${g}, ${d}]`,
  `i32[${b}, ${s}]`,
];
const attentionFill: readonly Fill[] = ["normal", "normal", "normal", "segments"];
const whole: readonly Fill[] = ["normal", "normal", "normal", { value: 0 }];

const attentionSamples: readonly Sample[] = [
  { types: attentionTypes(4, 4, 8, 4, 4), attrs: { scale: 0.5 }, fill: whole },
  { types: attentionTypes(2, 11, 6, 3, 10), attrs: { scale: 0.3 }, fill: attentionFill },
  { types: attentionTypes(1, 37, 3, 1, 16), attrs: { scale: 0.25, window: 5 }, fill: attentionFill },
  { types: attentionTypes(1, 21, 2, 2, 8), attrs: { scale: 0.4, causal: false }, fill: attentionFill },
  { types: attentionTypes(1, 13, 2, 2, 6), attrs: { scale: 1, softcap: 1.5 }, fill: whole },
];

/** Queries are split over ranks, keys are whole. */
const sharedQuerySamples: readonly Sample[] = [
  { attrs: { scale: 0.4 }, queries: "12@y", keys: 12 },
  { attrs: { scale: 0.4, window: 3 }, queries: "12@x@y", keys: 12 },
  { attrs: { scale: 0.4, causal: false }, queries: "12@x", keys: 12 },
].map(({ attrs, queries, keys }) => ({
  types: [`f[2, ${queries}, 4, 6]`, `f[2, ${keys}, 2, 6]`, `f[2, ${keys}, 2, 6]`, `i32[2, ${keys}]`],
  attrs,
  fill: attentionFill,
  mesh: { x: 2, y: 2 },
}));

function attentionGradSample(sample: Sample): Sample {
  const [q] = sample.types;
  const [, b, s, h] = /\[(\d+), ([\w@]+), (\d+)/.exec(q) as RegExpExecArray;
  const made = (result: number): Made => ({ of: "attention", result, operands: [0, 1, 2, 3] });
  return {
    ...sample,
    types: [...sample.types, q, `f32[${b}, ${s}, ${h}]`, q],
    fill: [...(sample.fill ?? []), made(0), made(1), "normal"],
  };
}

const lseOf: Made = { of: "cross_entropy", result: 2, operands: [0, 1] };
const adamwFill: readonly Fill[] = ["normal", "normal", "normal", "positive", { value: 0.01 }, { value: 3 }];

export const samples: { readonly [K in OpName]: readonly Sample[] } = {
  add: [...binary(), { types: ["i32[4]", "i32[4]"], fill: [{ below: 9 }, { below: 9 }] }],
  sub: binary(),
  mul: binary(),
  div: binary("normal", "positive"),
  minimum: binary(),
  maximum: binary(),
  neg: unary(),
  exp: unary(),
  log: unary("positive"),
  sqrt: unary("positive"),
  tanh: unary(),
  sigmoid: unary(),
  scale: [
    { types: ["f[4, 8]"], attrs: { by: -0.125 } },
    { types: ["f[3, 7]"], attrs: { by: 3 } },
  ],
  cast: [
    { types: ["f[4, 8]"], attrs: { dtype: "bf16" } },
    { types: ["f[3, 7]"], attrs: { dtype: "f32" } },
    { types: ["i32[3, 7]"], attrs: { dtype: "f32" }, fill: [{ below: 1000 }] },
    { types: ["f[3, 7]"], attrs: { dtype: "i32" } },
  ],
  relu: unary("apart"),
  relu_grad: gradOf("apart"),
  silu: unary(),
  silu_grad: gradOf(),
  gelu: unary(),
  gelu_grad: gradOf(),
  swiglu: gradOf(),
  swiglu_grad_gate: [
    { types: ["f[4, 8]", "f[4, 8]", "f[4, 8]"] },
    { types: ["f[5, 7]", "f[5, 7]", "f[5, 7]"] },
  ],
  swiglu_grad_up: gradOf(),

  matmul: [
    { types: ["f[4, 8, 4]", "f[4, 12]"] },
    { types: ["f[4, 8, 4]", "f[12, 4]"], attrs: { transpose_b: true } },
    { types: ["f[4, 8, 4]", "f[4, 8, 12]"], attrs: { transpose_a: true } },
    { types: ["f[3, 5, 7]", "f[7, 11]"] },
    { types: ["f[1, 37, 19]", "f[23, 19]"], attrs: { transpose_b: true } },
    { types: ["f[3, 5, 7]", "f[3, 5, 11]"], attrs: { transpose_a: true } },
    { types: ["f[3, 17]", "f[3, 9]"], attrs: { transpose_a: true, dtype: "f32" } },
    { types: ["f[5]", "f[5, 3]"] },
  ],
  matmul_add: [
    { types: ["f[4, 8, 4]", "f[4, 8, 12]", "f32[4, 12]"] },
    { types: ["f[3, 5, 7]", "f[3, 5, 11]", "f32[7, 11]"] },
  ],
  embedding: [
    { types: ["i32[4, 8]", "f[12, 4]"], fill: [{ below: 12 }] },
    { types: ["i32[3, 5]", "f32[13, 7]"], attrs: { dtype: "f" }, fill: [{ below: 13 }] },
  ],
  embedding_grad: [
    { types: ["i32[4, 8]", "f[4, 8, 4]"], attrs: { vocabulary: 11 }, fill: [{ below: 11 }] },
    { types: ["i32[3, 5]", "f[3, 5, 7]"], attrs: { vocabulary: 4 }, fill: [{ below: 4 }] },
  ],

  sum: [
    { types: ["f[4, 8, 4]"], attrs: { dims: [0] } },
    { types: ["f[4, 8, 4]"], attrs: { dims: [1] } },
    { types: ["f[3, 5, 7]"], attrs: { dims: [0, 1] } },
    { types: ["f[3, 5, 7]"], attrs: { dims: [2], dtype: "f32" } },
    { types: ["f[3, 5, 7]"], attrs: { dims: [0, 2] } },
    { types: ["f[3, 5]"], attrs: { dims: [0, 1] } },
  ],
  broadcast: [
    { types: ["f[8, 4]"], attrs: { dims: [0], sizes: [3, 8, 4] } },
    { types: ["f[3, 7]"], attrs: { dims: [1], sizes: [3, 5, 7] } },
    { types: ["f[]"], attrs: { dims: [0, 1], sizes: [3, 5] } },
  ],
  sum_squares: [{ types: ["f[4, 8]"] }, { types: ["f[3, 5, 7]"] }],

  constant: [
    { types: [], attrs: { value: 2.5, dims: [3, 5], dtype: "f" } },
    { types: [], attrs: { value: -7, dims: [3], dtype: "i32" } },
    { types: [], attrs: { value: 1 } },
  ],
  split_heads: [
    { types: ["f[4, 4, 16]"], attrs: { heads: 4 } },
    { types: ["f[5, 21]"], attrs: { heads: 3 } },
  ],
  merge_heads: [{ types: ["f[4, 4, 4, 8]"] }, { types: ["f[5, 3, 7]"] }],
  transpose: [
    { types: ["f[4, 8, 12]"], attrs: { order: [2, 0, 1] } },
    { types: ["f[5, 7]"], attrs: { order: [1, 0] } },
  ],
  slice: [
    { types: ["f[4, 8, 4]"], attrs: { dim: 1, start: 3, length: 4 } },
    { types: ["f[5, 7]"], attrs: { dim: 0, start: 0, length: 2 } },
  ],
  pad: [
    { types: ["f[4, 8, 4]"], attrs: { dim: 1, start: 3, size: 12 } },
    { types: ["f[5, 7]"], attrs: { dim: 0, start: 0, size: 6 } },
  ],
  concat: [
    { types: ["f[4, 4, 8]", "f[4, 8, 8]"], attrs: { dim: 1 } },
    { types: ["f[2, 7]", "f[3, 7]", "f[1, 7]"], attrs: { dim: 0 } },
    { types: ["f[5, 3]", "f[5, 4]"], attrs: { dim: 1 } },
  ],

  repeat_interleave: [
    { types: ["f[4, 4, 8]"], attrs: { dim: 1, times: 2 } },
    { types: ["f[3, 5, 7]"], attrs: { dim: 2, times: 3 } },
    { types: ["f[2, 5]"], attrs: { dim: 0, times: 3 } },
  ],
  sum_groups: [
    { types: ["f[4, 8, 8]"], attrs: { dim: 1, times: 2 } },
    { types: ["f[3, 5, 9]"], attrs: { dim: 2, times: 3 } },
    { types: ["f[6, 5]"], attrs: { dim: 0, times: 3 } },
  ],

  rms_norm: [
    { types: ["f[4, 4, 8]", "f[8]"] },
    { types: ["f[3, 5, 7]", "f[7]"], attrs: { epsilon: 1e-5 } },
    { types: ["f[1, 37, 96]", "f[96]"], attrs: { epsilon: 1e-5 } },
  ],
  rms_norm_grad: [
    { types: ["f[4, 4, 8]", "f[8]", "f[4, 4, 8]"] },
    { types: ["f[3, 5, 7]", "f[7]", "f[3, 5, 7]"], attrs: { epsilon: 1e-5 } },
    { types: ["f[1, 37, 96]", "f[96]", "f[1, 37, 96]"], attrs: { epsilon: 1e-5 } },
  ],
  rope_table: [
    { types: ["i32[4, 8]"], attrs: { head_dim: 8 }, fill: ["positions"] },
    {
      types: ["i32[3, 7]"],
      attrs: { head_dim: 6, theta: 500, scaling: "linear", factor: 4 },
      fill: ["positions"],
    },
    {
      types: ["i32[1, 41]"],
      attrs: { head_dim: 16, scaling: "llama3", factor: 8, original_max_position: 64 },
      fill: ["positions"],
    },
  ],
  rope: [
    { types: ["f[4, 8, 4, 4]", "f32[4, 8, 2]", "f32[4, 8, 2]"] },
    { types: ["f[3, 5, 7, 6]", "f32[3, 5, 3]", "f32[3, 5, 3]"], attrs: { inverse: true } },
    { types: ["f[1, 9, 3, 32]", "f32[1, 9, 16]", "f32[1, 9, 16]"] },
  ],
  attention: [...attentionSamples, ...sharedQuerySamples],
  attention_grad: [...attentionSamples, ...sharedQuerySamples].map(attentionGradSample),
  cross_entropy: [
    { types: ["f[4, 8, 16]", "i32[4, 8]"], fill: ["normal", { labels: 16 }] },
    { types: ["f[3, 5, 103]", "i32[3, 5]"], fill: ["normal", { labels: 103 }] },
    { types: ["f[5, 7]", "i32[5]"], fill: ["normal", { value: -100 }] },
  ],
  cross_entropy_grad: [
    { types: ["f[4, 8, 16]", "i32[4, 8]", "f32[4, 8]", "f32[]"], fill: ["normal", { labels: 16 }, lseOf] },
    { types: ["f[3, 5, 103]", "i32[3, 5]", "f32[3, 5]", "f32[]"], fill: ["normal", { labels: 103 }, lseOf] },
  ],
  adamw: [
    {
      types: ["f32[4, 8]", "f32[4, 8]", "f32[4, 8]", "f32[4, 8]", "f32[]", "i32[]", "f32[]"],
      attrs: { beta2: 0.95, weight_decay: 0.1 },
      fill: [...adamwFill, { value: 0.5 }],
    },
    {
      types: ["f32[37]", "f32[37]", "f32[37]", "f32[37]", "f32[]", "i32[]", "f32[]"],
      fill: [...adamwFill, { value: 1 }],
    },
  ],

  all_to_all: [
    { types: ["f[4@x, 8, 3]"], attrs: { axis: "x", from: 0, to: 1 }, mesh: { x: 2, y: 2 } },
    {
      types: ["f[3, 2, 4@y, 5]", "f[3, 6, 2@y, 1]", "f[3, 4@x, 2@y, 7]"],
      attrs: { axis: "y", from: 2, to: 1 },
      mesh: { x: 2, y: 2 },
    },
    {
      types: ["f[1, 4@x, 6, 5]", "f[1, 4@x, 4@y, 5]", "f[3, 2@x, 4]"],
      attrs: { axis: "x", from: 1, to: 2 },
      mesh: { x: 2, y: 2 },
    },
  ],
  all_gather: [{ types: ["f[4, 8@y@x]"], attrs: { axis: "x", dim: 1 }, mesh: { x: 2, y: 2 } }],
  reduce_scatter: [{ types: ["f[4@y, 8]{sum@x}"], attrs: { axis: "x", dim: 1 }, mesh: { x: 2, y: 2 } }],
  all_reduce: [{ types: ["f[4, 8@y]{sum@x}"], attrs: { axis: "x" }, mesh: { x: 2, y: 2 } }],
  offload: [{ types: ["f[4, 7]"] }],
  reload: [{ types: ["f<host>[4, 7]"] }],
  spill: [{ types: ["f<host>[4, 7]"] }],
  fetch: [{ types: ["f<file>[4, 7]"] }],

  repeat: [
    {
      types: ["f[2, 6]", "3 x f[6, 6]"],
      attrs: { times: 3, carry: 1 },
      body: ([x, w]) => [ops.tanh(ops.matmul(x, w))],
    },
    {
      types: ["f[6]", "f[6]"],
      attrs: { times: 4, carry: 2 },
      body: ([a, b]) => [b, ops.add(a, b)],
    },
  ],
  tile: [
    {
      types: ["f[1, 12, 4]", "f[8, 4]"],
      attrs: { tiles: 3, split: [1, -1], join: [1] },
      body: ([x, w]) => [ops.silu(ops.matmul(x, w, { transpose_b: true }))],
    },
    {
      types: ["f[8, 5]", "i32[8]"],
      attrs: { tiles: 4, split: [0, 0], join: [-1, -1] },
      fill: ["normal", { labels: 5 }],
      body: ([x, labels]) => [...ops.cross_entropy(x, labels)].slice(0, 2),
    },
    {
      types: ["f[1, 8, 4]", "f[8, 4]"],
      attrs: { tiles: 3, rest: 2, split: [1, -1], join: [1, -1] },
      body: ([x, w]) => {
        const rows = ops.sum(x, { dims: [2] });
        const y = ops.mul(x, ops.broadcast(rows, { dims: [2], sizes: sizesOf(x.type) }));
        return [ops.silu(ops.matmul(y, w, { transpose_b: true })), ops.matmul(y, y, { transpose_a: true })];
      },
    },
  ],
  checkpoint: [
    {
      types: ["f[4, 8]", "f[8, 8]"],
      attrs: { kept: 1 },
      body: ([x, w]) => {
        const inner = ops.matmul(x, w);
        return [ops.add(x, ops.silu(inner)), inner];
      },
    },
  ],
  fused: [
    {
      types: ["f[4, 8]", "f[4, 8]"],
      attrs: {},
      body: ([x, y]) => {
        const a = ops.silu(x);
        return [ops.mul(a, y), ops.add(a, y)];
      },
    },
    {
      types: ["f[3, 5, 7]", "f[7]", "f[]", "f[3, 5, 7]"],
      attrs: {},
      body: ([x, w, s, y]) => [ops.sub(ops.mul(ops.mul(x, w), s), y)],
    },
    {
      types: ["f[3, 5, 7]", "f[5, 7]", "f[7]"],
      attrs: {},
      body: ([x, y, z]) => [ops.mul(ops.add(x, y), z)],
    },
  ],
};

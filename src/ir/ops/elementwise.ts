/** @file Elementwise ops: arithmetic with broadcasting of trailing dimensions, activations and their gradients. */
import { generate, type NDArray, stridesOf } from "../array.ts";
import { defineOp } from "../define-op.ts";
import { UserError } from "../error.ts";
import type { Value } from "../graph.ts";
import type { Gradients } from "../op.ts";
import { elements, isFloat, sizesOf, type TensorType, tensor } from "../type.ts";
import { bytesOf } from "./cost.ts";
import { sum } from "./reduce.ts";

const LETTERS = "abcdefghijklmn";

/** Rule of an elementwise op: operands are aligned at their last dimension. */
function broadcastRule(_attrs: unknown, types: readonly TensorType[]): string {
  const rank = Math.max(...types.map((type) => type.dims.length));
  const terms = types.map((type) => LETTERS.slice(rank - type.dims.length, rank));
  return `${terms.join(", ")} -> ${LETTERS.slice(0, rank)}`;
}

/** The common type: the sizes of the operand with the most dimensions; the others must equal its trailing ones. */
export function broadcastType(types: readonly TensorType[]): TensorType {
  const largest = types.reduce((a, b) => (b.dims.length > a.dims.length ? b : a));
  const sizes = sizesOf(largest);
  for (const type of types) {
    const own = sizesOf(type);
    if (own.some((size, i) => size !== sizes[sizes.length - own.length + i])) {
      throw new UserError(`sizes [${own.join(", ")}] and [${sizes.join(", ")}] don't fit together`, {
        remedy: "Operands need equal sizes, or one must equal the other's trailing dimensions.",
      });
    }
    if (type.dtype !== largest.dtype) {
      throw new UserError(`element types ${type.dtype} and ${largest.dtype} differ`, {
        remedy: "Cast one of them.",
      });
    }
  }
  return { ...tensor(largest.dtype, sizes), memory: largest.memory };
}

/** Evaluates `f` at every element of the broadcast operands. */
function evalElementwise(arrays: readonly NDArray[], f: (...x: number[]) => number): NDArray[] {
  const sizes = arrays.reduce((a, b) => (b.sizes.length > a.sizes.length ? b : a)).sizes;
  const strides = arrays.map((x) => stridesOf(x.sizes));
  const at = (x: NDArray, own: readonly number[], index: readonly number[]): number => {
    const skip = index.length - own.length;
    return x.data[own.reduce((offset, stride, d) => offset + stride * index[d + skip], 0)];
  };
  return [generate(sizes, (index) => f(...arrays.map((x, i) => at(x, strides[i], index))))];
}

/** The gradient `grad` of a broadcast operand: summed over the dimensions that `like` lacks. */
function unbroadcast(grad: Value, like: Value): Value {
  const extra = grad.type.dims.length - like.type.dims.length;
  return extra === 0 ? grad : sum(grad, { dims: Array.from({ length: extra }, (_, i) => i) });
}

interface Pointwise<N extends readonly string[]> {
  readonly name: string;
  readonly doc: string;
  readonly operands: N;
  /** Per element of the result. */
  readonly flops?: number;
  readonly f: (...x: number[]) => number;
  /** The operands' gradients at the sizes of dy; summed over broadcast dimensions afterwards. Null: none. */
  readonly gradient: ((operands: readonly Value[], dy: Value, y: Value) => Value[]) | null;
}

/** An op of any number of operands with broadcasting of trailing dimensions. */
function pointwise<const N extends readonly string[]>({
  name,
  doc,
  operands,
  flops = 1,
  f,
  gradient,
}: Pointwise<N>) {
  return defineOp({
    name,
    doc,
    operands,
    attrs: {},
    sharding: broadcastRule,
    elementwise: true,
    overwrites: operands.map((_, i) => [0, i] as const),
    infer: (types) => [broadcastType(types)],
    gradient:
      gradient &&
      (({ operands: xs, results: [y], grads: [dy] }): Gradients =>
        gradient(xs, dy as Value, y).map((grad, i) => unbroadcast(grad, xs[i]))),
    cost: (types, _attrs, results) => ({
      flops: flops * elements(results[0]),
      bytes: bytesOf(types, results),
    }),
    eval: (arrays) => evalElementwise(arrays, f),
  });
}

interface Binary {
  readonly name: string;
  readonly doc: string;
  readonly f: (a: number, b: number) => number;
  readonly gradient: ((a: Value, b: Value, dy: Value, y: Value) => [Value, Value]) | null;
}

function binary({ name, doc, f, gradient }: Binary) {
  const of = gradient && (([a, b]: readonly Value[], dy: Value, y: Value) => gradient(a, b, dy, y));
  return pointwise({ name, doc, operands: ["a", "b"], f, gradient: of });
}

export const add = binary({
  name: "add",
  doc: "a + b",
  f: (a, b) => a + b,
  gradient: (_a, _b, dy) => [dy, dy],
});
export const sub = binary({
  name: "sub",
  doc: "a - b",
  f: (a, b) => a - b,
  gradient: (_a, _b, dy) => [dy, neg(dy)],
});
export const mul = binary({
  name: "mul",
  doc: "a * b",
  f: (a, b) => a * b,
  gradient: (a, b, dy) => [mul(dy, b), mul(dy, a)],
});
export const div = binary({
  name: "div",
  doc: "a / b",
  f: (a, b) => a / b,
  gradient: (_a, b, dy, y) => [div(dy, b), neg(div(mul(dy, y), b))],
});
export const minimum = binary({
  name: "minimum",
  doc: "the smaller of a and b",
  f: Math.min,
  gradient: null,
});
export const maximum = binary({ name: "maximum", doc: "the larger of a and b", f: Math.max, gradient: null });

interface Unary {
  readonly name: string;
  readonly doc: string;
  readonly f: (x: number) => number;
  readonly gradient: (x: Value, dy: Value, y: Value) => Value;
}

function unary({ name, doc, f, gradient }: Unary) {
  return defineOp({
    name,
    doc,
    operands: ["x"],
    attrs: {},
    sharding: "... -> ...",
    elementwise: true,
    overwrites: [[0, 0]],
    infer: ([x]) => {
      if (!isFloat(x)) throw new UserError(`${name} needs a floating-point operand, not ${x.dtype}`);
      return [{ ...tensor(x.dtype, sizesOf(x)), memory: x.memory }];
    },
    gradient: ({ operands: [x], results: [y], grads: [dy] }): Gradients => [gradient(x, dy as Value, y)],
    cost: (types, _attrs, results) => ({ flops: elements(results[0]), bytes: bytesOf(types, results) }),
    eval: (arrays) => evalElementwise(arrays, f),
  });
}

const sigmoidOf = (x: number): number => 1 / (1 + Math.exp(-x));
const GELU_SCALE = Math.sqrt(2 / Math.PI);
const geluInner = (x: number): number => GELU_SCALE * (x + 0.044715 * x ** 3);

export const neg = unary({ name: "neg", doc: "-x", f: (x) => -x, gradient: (_x, dy) => neg(dy) });
export const exp = unary({
  name: "exp",
  doc: "e to the x",
  f: Math.exp,
  gradient: (_x, dy, y) => mul(dy, y),
});
export const log = unary({
  name: "log",
  doc: "natural logarithm",
  f: Math.log,
  gradient: (x, dy) => div(dy, x),
});
export const sqrt = unary({
  name: "sqrt",
  doc: "square root",
  f: Math.sqrt,
  gradient: (_x, dy, y) => div(dy, add(y, y)),
});
export const tanh = unary({
  name: "tanh",
  doc: "hyperbolic tangent",
  f: Math.tanh,
  gradient: (_x, dy, y) => sub(dy, mul(dy, mul(y, y))),
});
export const sigmoid = unary({
  name: "sigmoid",
  doc: "1 / (1 + exp(-x))",
  f: sigmoidOf,
  gradient: (_x, dy, y) => mul(dy, sub(y, mul(y, y))),
});

/** An activation whose gradient is an op of its own: one pass over memory instead of five. */
function activation(name: string, doc: string, f: (x: number) => number, slope: (x: number) => number) {
  const grad = binary({
    name: `${name}_grad`,
    doc: `gradient of ${name}: the derivative at a, times b`,
    f: (x, dy) => dy * slope(x),
    gradient: null,
  });
  return [unary({ name, doc, f, gradient: (x, dy) => grad(x, dy) }), grad] as const;
}

export const [relu, relu_grad] = activation(
  "relu",
  "max(x, 0)",
  (x) => Math.max(x, 0),
  (x) => (x > 0 ? 1 : 0),
);
export const [silu, silu_grad] = activation(
  "silu",
  "x * sigmoid(x), also called swish",
  (x) => x * sigmoidOf(x),
  (x) => sigmoidOf(x) * (1 + x * (1 - sigmoidOf(x))),
);
export const [gelu, gelu_grad] = activation(
  "gelu",
  "GELU in its tanh form (Hendrycks and Gimpel 2016, arXiv:1606.08415)",
  (x) => 0.5 * x * (1 + Math.tanh(geluInner(x))),
  (x) => {
    const t = Math.tanh(geluInner(x));
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * GELU_SCALE * (1 + 3 * 0.044715 * x * x);
  },
);

export const swiglu_grad_gate = pointwise({
  name: "swiglu_grad_gate",
  doc: "Gradient of swiglu in gate: dy * up * silu'(gate).",
  operands: ["gate", "up", "dy"],
  flops: 8,
  f: (gate, up, dy) => {
    const s = sigmoidOf(gate);
    return dy * up * s * (1 + gate * (1 - s));
  },
  gradient: null,
});

export const swiglu_grad_up = binary({
  name: "swiglu_grad_up",
  doc: "gradient of swiglu in up: silu(a) * b, where a is gate and b is dy",
  f: (gate, dy) => gate * sigmoidOf(gate) * dy,
  gradient: null,
});

export const swiglu = pointwise({
  name: "swiglu",
  doc: "silu(gate) * up (Shazeer 2020, arXiv:2002.05202)",
  operands: ["gate", "up"],
  flops: 5,
  f: (gate, up) => gate * sigmoidOf(gate) * up,
  gradient: ([gate, up], dy) => [swiglu_grad_gate(gate, up, dy), swiglu_grad_up(gate, dy)],
});

export const scale = defineOp({
  name: "scale",
  doc: "x times a number known at compile time",
  operands: ["x"],
  attrs: { by: 1 },
  sharding: "... -> ...",
  elementwise: true,
  overwrites: [[0, 0]],
  infer: ([x]) => [{ ...tensor(x.dtype, sizesOf(x)), memory: x.memory }],
  gradient: ({ attrs, grads: [dy] }): Gradients => [scale(dy as Value, attrs)],
  cost: (types, _attrs, results) => ({ flops: elements(results[0]), bytes: bytesOf(types, results) }),
  eval: ([x], { by }) => evalElementwise([x], (v) => v * by),
});

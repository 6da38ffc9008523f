/** @file Reductions: sums over dimensions, and the sum of squares for the gradient norm. */
import { addInto, forEachIndex, generate, stridesOf, zeros } from "../array.ts";
import { defineOp } from "../define-op.ts";
import { UserError } from "../error.ts";
import type { Value } from "../graph.ts";
import type { Gradients } from "../op.ts";
import { dtypeOf, elements, sizesOf, tensor } from "../type.ts";
import { sameDType } from "./cast.ts";
import { bytesOf } from "./cost.ts";

const LETTERS = "abcdefghijklmn";

/** Letters of the dimensions that remain when `dims` of `rank` are reduced. */
function remaining(rank: number, dims: readonly number[]): string {
  return [...LETTERS.slice(0, rank)].filter((_, i) => !dims.includes(i)).join("");
}

export const sum = defineOp({
  name: "sum",
  doc: "Sum over the dimensions `dims`, accumulated in f32; `dtype` is the result's element type (\"\" = the operand's).",
  operands: ["x"],
  attrs: { dims: [] as readonly number[], dtype: "" },
  sharding: ({ dims }, [x]) => `${LETTERS.slice(0, x.dims.length)} -> ${remaining(x.dims.length, dims)}`,
  infer: ([x], { dims, dtype }) => {
    if (dims.some((dim) => dim < 0 || dim >= x.dims.length)) {
      throw new UserError(`dims [${dims.join(", ")}] are not all dimensions of a tensor of ${x.dims.length}`);
    }
    return [
      tensor(
        dtypeOf(dtype || x.dtype),
        sizesOf(x).filter((_, i) => !dims.includes(i)),
      ),
    ];
  },
  gradient: ({ operands: [x], attrs: { dims }, grads: [dy] }): Gradients => [
    broadcast(sameDType(dy as Value, x), { dims, sizes: sizesOf(x.type) }),
  ],
  cost: (types, _attrs, results) => ({ flops: elements(types[0]), bytes: bytesOf(types, results) }),
  eval: ([x], { dims }, [sizes]) => {
    const result = zeros(sizes);
    forEachIndex(x.sizes, (index, flat) => {
      const kept = index.filter((_, i) => !dims.includes(i));
      addInto(result, { sizes: kept.map(() => 1), data: x.data.subarray(flat, flat + 1) }, kept);
    });
    return [result];
  },
});

export const broadcast = defineOp({
  name: "broadcast",
  doc: "Repeats x along new dimensions `dims` of the result, whose sizes are `sizes`.",
  operands: ["x"],
  attrs: { dims: [] as readonly number[], sizes: [] as readonly number[] },
  sharding: ({ dims, sizes }) => `${remaining(sizes.length, dims)} -> ${LETTERS.slice(0, sizes.length)}`,
  infer: ([x], { dims, sizes }) => {
    const kept = sizes.filter((_, i) => !dims.includes(i));
    if (kept.join() !== sizesOf(x).join()) {
      throw new UserError(
        `sizes [${sizes.join(", ")}] without dims [${dims.join(", ")}] are not [${sizesOf(x).join(", ")}]`,
      );
    }
    return [tensor(x.dtype, sizes)];
  },
  resize: (_attrs, { results: [sizes] }) => ({ sizes }),
  gradient: ({ attrs: { dims }, grads: [dy] }): Gradients => [sum(dy as Value, { dims })],
  cost: (types, _attrs, results) => ({ flops: 0, bytes: bytesOf(types, results) }),
  eval: ([x], { dims }, [sizes]) => {
    const strides = stridesOf(x.sizes);
    return [
      generate(sizes, (index) => {
        const kept = index.filter((_, i) => !dims.includes(i));
        return x.data[kept.reduce((offset, at, d) => offset + at * strides[d], 0)];
      }),
    ];
  },
});

export const sum_squares = defineOp({
  name: "sum_squares",
  doc: "Sum of the squares of all elements, in f32.",
  operands: ["x"],
  attrs: {},
  sharding: "... -> ",
  infer: () => [tensor("f32", [])],
  gradient: null,
  cost: (types, _attrs, results) => ({ flops: 2 * elements(types[0]), bytes: bytesOf(types, results) }),
  eval: ([x]) => [
    { sizes: [], data: Float64Array.of(x.data.reduce((total, value) => total + value * value, 0)) },
  ],
});

/** @file Ops that move or rename elements: heads, transpose, slice, concat, and constants. */
import { addInto, forEachIndex, generate, reshape, slice as sliceArray, stridesOf, zeros } from "../array.ts";
import { defineOp } from "../define-op.ts";
import { UserError } from "../error.ts";
import type { Value } from "../graph.ts";
import type { Gradients } from "../op.ts";
import { dtypeOf, elements, sizesOf, tensor } from "../type.ts";
import { bytesOf } from "./cost.ts";

const LETTERS = "abcdefghijklmn";

export const constant = defineOp({
  name: "constant",
  doc: "A tensor of sizes `dims` filled with `value`; zeros may be a partial sum over the axes `partial` (`dp.sp`).",
  operands: [],
  attrs: { value: 0, dims: [] as readonly number[], dtype: "f32", partial: "" },
  sharding: "moves",
  infer: (_types, { value, dims, dtype, partial }) => {
    if (partial !== "" && value !== 0) throw new UserError("a constant that is a partial sum must be 0");
    return [{ ...tensor(dtypeOf(dtype), dims), partial: partial === "" ? [] : partial.split(".") }];
  },
  resize: (_attrs, { results: [sizes] }) => ({ dims: sizes }),
  gradient: (): Gradients => [],
  cost: (types, _attrs, results) => ({ flops: 0, bytes: bytesOf(types, results) }),
  eval: (_arrays, { value }, [sizes]) => [generate(sizes, () => value)],
});

export const split_heads = defineOp({
  name: "split_heads",
  doc: "[..., heads * d] read as [..., heads, d]. No bytes move.",
  operands: ["x"],
  attrs: { heads: 1 },
  sharding: "...(hd) -> ...hd",
  alias: true,
  infer: ([x], { heads }) => {
    const sizes = sizesOf(x);
    const width = sizes.at(-1) ?? 0;
    if (heads < 1 || width % heads !== 0) {
      throw new UserError(`a last dimension of ${width} can't be split into ${heads} heads`, {
        remedy: `Use a number of heads that divides ${width}.`,
      });
    }
    return [tensor(x.dtype, [...sizes.slice(0, -1), heads, width / heads])];
  },
  resize: (_attrs, { results: [sizes] }) => ({ heads: sizes.at(-2) as number }),
  gradient: ({ grads: [dy] }): Gradients => [merge_heads(dy as Value)],
  cost: () => ({ flops: 0, bytes: 0 }),
  eval: ([x], _attrs, [sizes]) => [reshape(x, sizes)],
});

export const merge_heads = defineOp({
  name: "merge_heads",
  doc: "[..., heads, d] read as [..., heads * d]. No bytes move.",
  operands: ["x"],
  attrs: {},
  sharding: "...hd! -> ...(hd)",
  alias: true,
  infer: ([x]) => {
    const sizes = sizesOf(x);
    if (sizes.length < 2)
      throw new UserError(`merge_heads needs two dimensions or more, not ${sizes.length}`);
    return [tensor(x.dtype, [...sizes.slice(0, -2), sizes[sizes.length - 2] * sizes[sizes.length - 1]])];
  },
  gradient: ({ operands: [x], grads: [dy] }): Gradients => [
    split_heads(dy as Value, { heads: sizesOf(x.type).at(-2) as number }),
  ],
  cost: () => ({ flops: 0, bytes: 0 }),
  eval: ([x], _attrs, [sizes]) => [reshape(x, sizes)],
});

export const transpose = defineOp({
  name: "transpose",
  doc: "Reorders dimensions: dimension i of the result is dimension `order[i]` of x.",
  operands: ["x"],
  attrs: { order: [] as readonly number[] },
  sharding: ({ order }) => `${LETTERS.slice(0, order.length)} -> ${order.map((at) => LETTERS[at]).join("")}`,
  infer: ([x], { order }) => {
    const sizes = sizesOf(x);
    if ([...order].sort((a, b) => a - b).join() !== sizes.map((_, i) => i).join()) {
      throw new UserError(`order [${order.join(", ")}] is not an order of ${sizes.length} dimensions`);
    }
    return [
      tensor(
        x.dtype,
        order.map((at) => sizes[at]),
      ),
    ];
  },
  gradient: ({ attrs: { order }, grads: [dy] }): Gradients => [
    transpose(dy as Value, { order: order.map((_, i) => order.indexOf(i)) }),
  ],
  cost: (types, _attrs, results) => ({ flops: 0, bytes: bytesOf(types, results) }),
  eval: ([x], { order }, [sizes]) => {
    const strides = stridesOf(x.sizes);
    return [
      generate(sizes, (index) => x.data[index.reduce((offset, at, d) => offset + at * strides[order[d]], 0)]),
    ];
  },
});

/** Rule of an op that must see dimension `dim` of `rank` whole on both sides. */
function wholeAt(dim: number, rank: number): string {
  return [...LETTERS.slice(0, rank)].map((letter, i) => (i === dim ? "z!" : letter)).join("");
}

function checkDimension(dim: number, rank: number): void {
  if (!Number.isInteger(dim) || dim < 0 || dim >= rank)
    throw new UserError(`there is no dimension ${dim} in a tensor of ${rank}`);
}

export const slice = defineOp({
  name: "slice",
  doc: "`length` elements of dimension `dim` from `start` on.",
  operands: ["x"],
  attrs: { dim: 0, start: 0, length: 1 },
  sharding: ({ dim }, [x]) => `${wholeAt(dim, x.dims.length)} -> ${wholeAt(dim, x.dims.length)}`,
  infer: ([x], { dim, start, length }) => {
    const sizes = sizesOf(x);
    checkDimension(dim, sizes.length);
    if (start < 0 || length < 1 || start + length > sizes[dim]) {
      throw new UserError(
        `elements ${start} to ${start + length} of dimension ${dim} lie outside [${sizes.join(", ")}]`,
      );
    }
    return [
      tensor(
        x.dtype,
        sizes.map((size, i) => (i === dim ? length : size)),
      ),
    ];
  },
  resize: ({ dim, start }, { operands: [x], results: [y], before }) => ({
    start: (start * x[dim]) / before.operands[0][dim],
    length: y[dim],
  }),
  gradient: ({ operands: [x], attrs: { dim, start }, grads: [dy] }): Gradients => [
    pad(dy as Value, { dim, start, size: sizesOf(x.type)[dim] }),
  ],
  cost: (_types, _attrs, results) => ({ flops: 0, bytes: 2 * bytesOf(results) }),
  eval: ([x], { dim, start }, [sizes]) => [
    sliceArray(
      x,
      sizes.map((_, i) => (i === dim ? start : 0)),
      sizes,
    ),
  ],
});

export const pad = defineOp({
  name: "pad",
  doc: "x at `start` of dimension `dim`, which has `size` elements; the others are zero.",
  operands: ["x"],
  attrs: { dim: 0, start: 0, size: 1 },
  sharding: ({ dim }, [x]) => `${wholeAt(dim, x.dims.length)} -> ${wholeAt(dim, x.dims.length)}`,
  infer: ([x], { dim, start, size }) => {
    const sizes = sizesOf(x);
    checkDimension(dim, sizes.length);
    if (start < 0 || start + sizes[dim] > size) {
      throw new UserError(`${sizes[dim]} elements at ${start} of dimension ${dim} don't fit into ${size}`);
    }
    return [
      tensor(
        x.dtype,
        sizes.map((own, i) => (i === dim ? size : own)),
      ),
    ];
  },
  resize: ({ dim, start }, { results: [y], before }) => ({
    start: (start * y[dim]) / before.results[0][dim],
    size: y[dim],
  }),
  gradient: ({ operands: [x], attrs: { dim, start }, grads: [dy] }): Gradients => [
    slice(dy as Value, { dim, start, length: sizesOf(x.type)[dim] }),
  ],
  cost: (types, _attrs, results) => ({ flops: 0, bytes: bytesOf(types, results) }),
  eval: ([x], { dim, start }, [sizes]) => {
    const result = zeros(sizes);
    addInto(
      result,
      x,
      sizes.map((_, i) => (i === dim ? start : 0)),
    );
    return [result];
  },
});

export const repeat_interleave = defineOp({
  name: "repeat_interleave",
  doc: "Every index of dimension `dim` `times` times in a row: [0, 1] becomes [0, 0, 1, 1].",
  operands: ["x"],
  attrs: { dim: 0, times: 1 },
  sharding: ({ dim }, [x]) => `${wholeAt(dim, x.dims.length)} -> ${wholeAt(dim, x.dims.length)}`,
  infer: ([x], { dim, times }) => {
    const sizes = sizesOf(x);
    if (dim < 0 || dim >= sizes.length || times < 1)
      throw new UserError(`dimension ${dim} of [${sizes.join(", ")}] can't be repeated ${times} times`);
    return [
      tensor(
        x.dtype,
        sizes.map((size, i) => (i === dim ? size * times : size)),
      ),
    ];
  },
  gradient: ({ attrs, grads: [dy] }): Gradients => [sum_groups(dy as Value, attrs)],
  cost: (types, _attrs, results) => ({ flops: 0, bytes: bytesOf(types, results) }),
  eval: ([x], { dim, times }, [sizes]) => {
    const strides = stridesOf(x.sizes);
    const offset = (index: readonly number[]) =>
      index.reduce((total, at, d) => total + (d === dim ? Math.floor(at / times) : at) * strides[d], 0);
    return [generate(sizes, (index) => x.data[offset(index)])];
  },
});

export const sum_groups = defineOp({
  name: "sum_groups",
  doc: "Sums of `times` indices in a row of dimension `dim`, in f32: the gradient of repeat_interleave.",
  operands: ["x"],
  attrs: { dim: 0, times: 1 },
  sharding: ({ dim }, [x]) => `${wholeAt(dim, x.dims.length)} -> ${wholeAt(dim, x.dims.length)}`,
  infer: ([x], { dim, times }) => {
    const sizes = sizesOf(x);
    if (dim < 0 || dim >= sizes.length || times < 1 || sizes[dim] % times !== 0) {
      throw new UserError(`dimension ${dim} of [${sizes.join(", ")}] can't be summed in groups of ${times}`);
    }
    return [
      tensor(
        x.dtype,
        sizes.map((size, i) => (i === dim ? size / times : size)),
      ),
    ];
  },
  gradient: ({ attrs, grads: [dy] }): Gradients => [repeat_interleave(dy as Value, attrs)],
  cost: (types, _attrs, results) => ({ flops: elements(types[0]), bytes: bytesOf(types, results) }),
  eval: ([x], { dim, times }, [sizes]) => {
    const result = zeros(sizes);
    forEachIndex(x.sizes, (index, flat) => {
      const at = index.map((own, d) => (d === dim ? Math.floor(own / times) : own));
      addInto(result, { sizes: at.map(() => 1), data: x.data.subarray(flat, flat + 1) }, at);
    });
    return [result];
  },
});

export const concat = defineOp({
  name: "concat",
  doc: "The operands one after the other along dimension `dim`.",
  operands: ["...xs"],
  attrs: { dim: 0 },
  sharding: ({ dim }, types) =>
    `${wholeAt(dim, types[0].dims.length)}* -> ${wholeAt(dim, types[0].dims.length)}`,
  infer: (types, { dim }) => {
    const sizes = types.map(sizesOf);
    checkDimension(dim, sizes[0].length);
    const others = (own: readonly number[]) => own.filter((_, i) => i !== dim).join();
    if (sizes.some((own) => own.length !== sizes[0].length || others(own) !== others(sizes[0]))) {
      throw new UserError(
        `[${sizes.map((own) => own.join(", ")).join("], [")}] can't be joined along dimension ${dim}`,
        {
          remedy: "All other dimensions must have equal sizes.",
        },
      );
    }
    const mixed = types.find((type) => type.dtype !== types[0].dtype);
    if (mixed)
      throw new UserError(`element types ${types[0].dtype} and ${mixed.dtype} differ`, {
        remedy: "Cast one of them.",
      });
    const total = sizes.reduce((all, own) => all + own[dim], 0);
    return [
      tensor(
        types[0].dtype,
        sizes[0].map((size, i) => (i === dim ? total : size)),
      ),
    ];
  },
  gradient: ({ operands, attrs: { dim }, grads: [dy] }): Gradients => {
    let start = 0;
    return operands.map((operand) => {
      const length = sizesOf(operand.type)[dim];
      start += length;
      return slice(dy as Value, { dim, start: start - length, length });
    });
  },
  cost: (types, _attrs, results) => ({ flops: 0, bytes: bytesOf(types, results) }),
  eval: (arrays, { dim }, [sizes]) => {
    const result = zeros(sizes);
    let start = 0;
    for (const x of arrays) {
      addInto(
        result,
        x,
        sizes.map((_, i) => (i === dim ? start : 0)),
      );
      start += x.sizes[dim];
    }
    return [result];
  },
});

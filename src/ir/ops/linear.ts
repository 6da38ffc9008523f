/** @file Matrix products and table look-up: where the parameters are. */
import { array, product, zeros } from "../array.ts";
import { defineOp } from "../define-op.ts";
import { UserError } from "../error.ts";
import type { Value } from "../graph.ts";
import type { Gradients } from "../op.ts";
import { dtypeOf, elements, sizesOf, tensor } from "../type.ts";
import { sameDType } from "./cast.ts";
import { bytesOf } from "./cost.ts";

export const matmul = defineOp({
  name: "matmul",
  doc:
    "Matrix product a b of a[..., k] and b[k, n]; with `transpose_b`, b is [n, k] as Hugging Face keeps weights; with " +
    "`transpose_a`, all leading dimensions of a[..., m] and b[..., n] are contracted to [m, n] (weight gradients). " +
    'Accumulates in f32; `dtype` is the element type of the result ("" = that of a).',
  operands: ["a", "b"],
  attrs: { transpose_a: false, transpose_b: false, dtype: "" },
  sharding: ({ transpose_a, transpose_b }) =>
    transpose_a ? "...m, ...n -> mn" : transpose_b ? "...k, nk -> ...n" : "...k, kn -> ...n",
  infer: ([a, b], { transpose_a, transpose_b, dtype }) => {
    const [left, right] = [sizesOf(a), sizesOf(b)];
    if (a.dtype !== b.dtype)
      throw new UserError(`element types ${a.dtype} and ${b.dtype} differ`, { remedy: "Cast one of them." });
    const result = dtypeOf(dtype || a.dtype);
    if (transpose_a) {
      if (left.slice(0, -1).join() !== right.slice(0, -1).join()) {
        throw new UserError(`leading sizes of [${left.join(", ")}] and [${right.join(", ")}] differ`);
      }
      return [tensor(result, [left[left.length - 1], right[right.length - 1]])];
    }
    if (right.length !== 2 || left.length < 1) {
      throw new UserError(
        `[${left.join(", ")}] by [${right.join(", ")}]: the second operand must be a matrix`,
      );
    }
    const [contracted, width] = transpose_b ? [right[1], right[0]] : right;
    if (left[left.length - 1] !== contracted) {
      throw new UserError(
        `[${left.join(", ")}] by [${right.join(", ")}]: ${left[left.length - 1]} and ${contracted} differ`,
        {
          remedy: "The last dimension of the input must equal the weight's number of input features.",
        },
      );
    }
    return [tensor(result, [...left.slice(0, -1), width])];
  },
  gradient: ({ operands: [a, b], attrs: { transpose_a, transpose_b }, grads: [dy] }): Gradients => {
    const d = sameDType(dy as Value, a);
    if (transpose_a) return [matmul(b, d, { transpose_b: true }), matmul(a, d)];
    return transpose_b
      ? [matmul(d, b), matmul(d, a, { transpose_a: true })]
      : [matmul(d, b, { transpose_b: true }), matmul(a, d, { transpose_a: true })];
  },
  cost: (types, { transpose_a, transpose_b }, results) => {
    const width = transpose_a ? (types[1].dims.at(-1)?.size ?? 1) : types[1].dims[transpose_b ? 0 : 1].size;
    return { flops: 2 * elements(types[0]) * width, bytes: bytesOf(types, results) };
  },
  eval: ([a, b], { transpose_a, transpose_b }, [sizes]) => {
    const result = zeros(sizes);
    const n = sizes[sizes.length - 1];
    const last = a.sizes[a.sizes.length - 1];
    const rows = product(a.sizes) / Math.max(last, 1);
    for (let row = 0; row < rows; row++) {
      for (let k = 0; k < last; k++) {
        const x = a.data[row * last + k];
        for (let j = 0; j < n; j++) {
          if (transpose_a) result.data[k * n + j] += x * b.data[row * n + j];
          else result.data[row * n + j] += x * b.data[transpose_b ? j * last + k : k * n + j];
        }
      }
    }
    return [result];
  },
});

export const matmul_add = defineOp({
  name: "matmul_add",
  doc: "c + a^T b, all leading dimensions of a[..., m] and b[..., n] contracted: a weight gradient added to what is there.",
  operands: ["a", "b", "c"],
  attrs: {},
  sharding: "...!m, ...!n, mn -> mn",
  overwrites: [[0, 2]],
  infer: ([a, b, c], _attrs, context) => {
    const [sum] = matmul.record.infer(
      [a, b],
      { transpose_a: true, transpose_b: false, dtype: c.dtype },
      context,
    );
    if (sizesOf(sum).join() !== sizesOf(c).join()) {
      throw new UserError(
        `a product of [${sizesOf(sum).join(", ")}] can't be added to [${sizesOf(c).join(", ")}]`,
      );
    }
    return [sum];
  },
  gradient: null,
  cost: (types, _attrs, results) => ({
    flops: 2 * elements(types[0]) * (types[1].dims.at(-1)?.size ?? 1),
    bytes: bytesOf(types, results),
  }),
  eval: ([a, b, c], _attrs, [sizes]) => {
    const n = sizes[1];
    const m = sizes[0];
    const result = array(sizes, c.data);
    for (let row = 0; row < product(a.sizes) / m; row++) {
      for (let i = 0; i < m; i++) {
        for (let j = 0; j < n; j++) result.data[i * n + j] += a.data[row * m + i] * b.data[row * n + j];
      }
    }
    return [result];
  },
});

export const embedding = defineOp({
  name: "embedding",
  doc: 'Row `ids` of the table [vocabulary, width]; `dtype` is the element type of the result ("" = that of the table).',
  operands: ["ids", "table"],
  attrs: { dtype: "" },
  sharding: "..., v!n -> ...n",
  infer: ([ids, table], { dtype }) => {
    if (ids.dtype !== "i32") throw new UserError(`ids must be i32, not ${ids.dtype}`);
    if (table.dims.length !== 2)
      throw new UserError(`the table needs two dimensions, not ${table.dims.length}`);
    return [tensor(dtypeOf(dtype || table.dtype), [...sizesOf(ids), table.dims[1].size])];
  },
  gradient: ({ operands: [ids, table], grads: [dy] }): Gradients => [
    null,
    embedding_grad(ids, dy as Value, { vocabulary: table.type.dims[0].size }),
  ],
  cost: (types, _attrs, results) => ({ flops: 0, bytes: bytesOf([types[0]], results, results) }),
  eval: ([ids, table], _attrs, [sizes]) => {
    const width = sizes[sizes.length - 1];
    const result = zeros(sizes);
    ids.data.forEach((id, row) => {
      result.data.set(table.data.subarray(id * width, (id + 1) * width), row * width);
    });
    return [result];
  },
});

export const embedding_grad = defineOp({
  name: "embedding_grad",
  doc: "Gradient of embedding: row v of the result [vocabulary, width] is the sum of dy over the places where ids is v, in f32.",
  operands: ["ids", "dy"],
  attrs: { vocabulary: 1 },
  sharding: "..., ...n -> vn",
  infer: ([, dy], { vocabulary }) => [tensor("f32", [vocabulary, dy.dims[dy.dims.length - 1].size])],
  resize: (_attrs, { results: [[vocabulary]] }) => ({ vocabulary }),
  gradient: null,
  cost: (types, _attrs, results) => ({ flops: elements(types[1]), bytes: bytesOf(types, results) }),
  eval: ([ids, dy], _attrs, [sizes]) => {
    const [, width] = sizes;
    const table = array(sizes, new Float64Array(product(sizes)));
    ids.data.forEach((id, row) => {
      for (let i = 0; i < width; i++) table.data[id * width + i] += dy.data[row * width + i];
    });
    return [table];
  },
});

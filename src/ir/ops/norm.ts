/** @file Normalization over the last dimension. */
import { type NDArray, zeros } from "../array.ts";
import { defineOp } from "../define-op.ts";
import { UserError } from "../error.ts";
import type { Value } from "../graph.ts";
import type { Gradients } from "../op.ts";
import { elements, sizesOf, tensor } from "../type.ts";
import { bytesOf } from "./cost.ts";

/** 1 / sqrt(mean(x^2) + epsilon) of each row. */
function inverseRms(x: NDArray, width: number, epsilon: number): number[] {
  const rows = x.data.length / width;
  return Array.from({ length: rows }, (_, row) => {
    const values = x.data.subarray(row * width, (row + 1) * width);
    return 1 / Math.sqrt(values.reduce((total, value) => total + value * value, 0) / width + epsilon);
  });
}

export const rms_norm = defineOp({
  name: "rms_norm",
  doc: "x / sqrt(mean(x^2) + epsilon) * weight over the last dimension, in f32 (Zhang and Sennrich 2019, arXiv:1910.07467).",
  operands: ["x", "weight"],
  attrs: { epsilon: 1e-6 },
  sharding: "...n!, n! -> ...n",
  infer: ([x, weight]) => {
    const width = x.dims[x.dims.length - 1].size;
    if (weight.dims.length !== 1 || weight.dims[0].size !== width) {
      throw new UserError(`a weight of [${sizesOf(weight).join(", ")}] for rows of ${width}`, {
        remedy: `The weight needs ${width} elements.`,
      });
    }
    if (x.dtype !== weight.dtype)
      throw new UserError(`element types ${x.dtype} and ${weight.dtype} differ`, {
        remedy: "Cast one of them.",
      });
    return [tensor(x.dtype, sizesOf(x))];
  },
  gradient: ({ operands: [x, weight], attrs, grads: [dy] }): Gradients => {
    const [dx, dWeight] = rms_norm_grad(x, weight, dy as Value, attrs);
    return [dx, dWeight];
  },
  cost: (types, _attrs, results) => ({ flops: 4 * elements(types[0]), bytes: bytesOf(types, results) }),
  eval: ([x, weight], { epsilon }, [sizes]) => {
    const width = sizes[sizes.length - 1];
    const inverse = inverseRms(x, width, epsilon);
    return [
      {
        sizes,
        data: x.data.map((value, i) => value * inverse[Math.floor(i / width)] * weight.data[i % width]),
      },
    ];
  },
});

export const rms_norm_grad = defineOp({
  name: "rms_norm_grad",
  doc: "Gradients of rms_norm: dx like x, and d_weight summed over all rows in f32.",
  operands: ["x", "weight", "dy"],
  results: ["dx", "d_weight"],
  attrs: { epsilon: 1e-6 },
  sharding: "...n!, n!, ...n! -> ...n, n",
  overwrites: [[0, 2]],
  infer: ([x]) => [tensor(x.dtype, sizesOf(x)), tensor("f32", [x.dims[x.dims.length - 1].size])],
  gradient: null,
  cost: (types, _attrs, results) => ({ flops: 9 * elements(types[0]), bytes: bytesOf(types, results) }),
  eval: ([x, weight, dy], { epsilon }, [sizes, weightSizes]) => {
    const width = sizes[sizes.length - 1];
    const [dx, dWeight] = [zeros(sizes), zeros(weightSizes)];
    inverseRms(x, width, epsilon).forEach((inverse, row) => {
      const at = row * width;
      let dot = 0;
      for (let i = 0; i < width; i++) dot += dy.data[at + i] * weight.data[i] * x.data[at + i];
      for (let i = 0; i < width; i++) {
        const normal = x.data[at + i] * inverse;
        dWeight.data[i] += dy.data[at + i] * normal;
        dx.data[at + i] = inverse * (dy.data[at + i] * weight.data[i] - (normal * inverse * dot) / width);
      }
    });
    return [dx, dWeight];
  },
});

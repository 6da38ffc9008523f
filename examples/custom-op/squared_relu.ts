/** @file Squared ReLU as an op: what it is for the compiler; the kernels are in the files beside this one. */
import { array, bytesOf, defineKernel, defineOp, elements, ops, sizesOf, tensor, type Value } from "ithaca";

export const squared_relu = defineOp({
  name: "squared_relu",
  doc: "max(x, 0)^2, the activation of Primer (So et al. 2021, arXiv:2109.08668).",
  operands: ["x"],
  attrs: {},
  // Every element for itself: any dimension may be shared by ranks or computed in tiles.
  sharding: "... -> ...",
  infer: ([x]) => [tensor(x.dtype, sizesOf(x))],
  gradient: ({ operands: [x], grads: [dy] }) => [ops.scale(ops.mul(ops.relu(x), dy as Value), { by: 2 })],
  cost: (types, _attrs, results) => ({ flops: 2 * elements(results[0]), bytes: bytesOf(types, results) }),
  eval: ([x]) => [
    array(
      x.sizes,
      x.data.map((value) => Math.max(value, 0) ** 2),
    ),
  ],
});

export const kernel = defineKernel(squared_relu, {
  cpu: "squared_relu.cc",
  cuda: "squared_relu.cu",
  samples: [{ types: ["f[2, 6, 8]"] }, { types: ["f[5]"] }],
});

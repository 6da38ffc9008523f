/** @file The residual add and the norm behind it as one op, which gives both the sum and its norm. */
import {
  array,
  bytesOf,
  defineKernel,
  defineOp,
  elements,
  ops,
  recordOf,
  sizesOf,
  tensor,
  UserError,
  type Value,
} from "ithaca";

export const add_rms_norm = defineOp({
  name: "add_rms_norm",
  doc: "h = a + b and rms_norm(h, weight), in one walk over memory.",
  operands: ["a", "b", "weight"],
  results: ["h", "norm"],
  attrs: { epsilon: 1e-6 },
  // As rms_norm: rows are shared by ranks or computed in tiles as one likes, each must be whole.
  sharding: "...n!, ...n!, n! -> ...n, ...n",
  overwrites: [
    [0, 0],
    [1, 1],
  ],
  infer: ([a, b, weight]) => {
    if (sizesOf(a).join() !== sizesOf(b).join())
      throw new UserError(`[${sizesOf(a).join(", ")}] and [${sizesOf(b).join(", ")}] are not alike`);
    if (sizesOf(weight).join() !== String(sizesOf(a).at(-1)))
      throw new UserError(`a weight of [${sizesOf(weight).join(", ")}] for rows of ${sizesOf(a).at(-1)}`);
    const own = tensor(a.dtype, sizesOf(a));
    return [own, own];
  },
  gradient: ({ operands: [, , weight], results: [h], attrs, grads: [dh, dNorm] }) => {
    if (!dNorm) return [dh, dh, null];
    const [dx, dWeight] = ops.rms_norm_grad(h as Value, weight, dNorm, attrs);
    const both = dh ? ops.add(dh, dx) : dx;
    return [both, both, dWeight];
  },
  cost: (types, _attrs, results) => ({ flops: 5 * elements(types[0]), bytes: bytesOf(types, results) }),
  eval: ([a, b, weight], attrs, [sizes]) => {
    const h = array(
      sizes,
      a.data.map((value, i) => value + b.data[i]),
    );
    const [norm] = recordOf("rms_norm").eval?.([h, weight], attrs, [sizes], []) ?? [];
    return [h, norm];
  },
});

export const kernel = defineKernel(add_rms_norm, {
  cpu: "add_rms_norm.cc",
  samples: [{ types: ["f[2, 3, 8]", "f[2, 3, 8]", "f[8]"] }, { types: ["f[5, 33]", "f[5, 33]", "f[33]"] }],
});

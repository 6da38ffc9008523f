/** @file Change of element type. It stands below the other families: their gradients come back in their operands' type. */
import { defineOp } from "../define-op.ts";
import type { Value } from "../graph.ts";
import type { Gradients } from "../op.ts";
import { dtypeOf, isFloat, sizesOf, tensor } from "../type.ts";
import { bytesOf } from "./cost.ts";

export const cast = defineOp({
  name: "cast",
  doc: "The same values in another element type; to bf16 it rounds to nearest even, to i32 towards zero.",
  operands: ["x"],
  attrs: { dtype: "f32" },
  sharding: "... -> ...",
  identity: true,
  elementwise: true,
  infer: ([x], { dtype }) => [{ ...tensor(dtypeOf(dtype), sizesOf(x)), memory: x.memory }],
  gradient: ({ operands: [x], grads: [dy] }): Gradients => [
    isFloat(x.type) ? cast(dy as Value, { dtype: x.type.dtype }) : null,
  ],
  cost: (types, _attrs, results) => ({ flops: 0, bytes: bytesOf(types, results) }),
  eval: ([x], { dtype }) => [dtype === "i32" ? { ...x, data: x.data.map(Math.trunc) } : x],
});

/** `d` in the element type of `like`. */
export function sameDType(d: Value, like: Value): Value {
  return d.type.dtype === like.type.dtype ? d : cast(d, { dtype: like.type.dtype });
}

/** @file The optimizer's step. */
import { zeros } from "../array.ts";
import { defineOp } from "../define-op.ts";
import { UserError } from "../error.ts";
import { elements, sizesOf, tensor } from "../type.ts";
import { bytesOf } from "./cost.ts";

export const adamw = defineOp({
  name: "adamw",
  doc:
    "AdamW with decoupled weight decay as in PyTorch (Loshchilov and Hutter 2019, arXiv:1711.05101). The gradient is " +
    "multiplied by `grad_scale` first; `step` is 1 for the first update. All in f32, one pass, in place.",
  operands: ["param", "grad", "m", "v", "learning_rate", "step", "grad_scale"],
  results: ["param", "m", "v"],
  attrs: { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0 },
  sharding: "..., ..., ..., ..., , , -> ..., ..., ...",
  overwrites: [
    [0, 0],
    [1, 2],
    [2, 3],
  ],
  infer: (types) => {
    const sizes = sizesOf(types[0]);
    if (types.slice(0, 4).some((type) => sizesOf(type).join() !== sizes.join() || type.dtype !== "f32")) {
      throw new UserError(`param, grad, m and v must all be f32[${sizes.join(", ")}]`);
    }
    return [types[0], types[2], types[3]].map((type) => ({ ...tensor("f32", sizes), memory: type.memory }));
  },
  gradient: null,
  cost: (types, _attrs, results) => ({ flops: 14 * elements(types[0]), bytes: bytesOf(types, results) }),
  eval: ([param, grad, m, v, rate, step, scale], { beta1, beta2, epsilon, weight_decay }, [sizes]) => {
    const [p1, m1, v1] = [zeros(sizes), zeros(sizes), zeros(sizes)];
    const lr = rate.data[0];
    const correction1 = 1 - beta1 ** step.data[0];
    const correction2 = Math.sqrt(1 - beta2 ** step.data[0]);
    for (let i = 0; i < param.data.length; i++) {
      const g = grad.data[i] * scale.data[0];
      m1.data[i] = beta1 * m.data[i] + (1 - beta1) * g;
      v1.data[i] = beta2 * v.data[i] + (1 - beta2) * g * g;
      const decayed = param.data[i] * (1 - lr * weight_decay);
      p1.data[i] =
        decayed - ((lr / correction1) * m1.data[i]) / (Math.sqrt(v1.data[i]) / correction2 + epsilon);
    }
    return [p1, m1, v1];
  },
});

/** @file Copies between device and host memory, which run on lanes of their own. */
import { defineOp } from "../define-op.ts";
import { UserError } from "../error.ts";
import type { Value } from "../graph.ts";
import type { Gradients } from "../op.ts";
import type { TensorType } from "../type.ts";
import { bytesOf } from "./cost.ts";

function copy(x: TensorType, from: "device" | "host", to: "device" | "host"): TensorType[] {
  if (x.memory !== from) throw new UserError(`the value is in ${x.memory} memory already`);
  return [{ ...x, memory: to }];
}

const common = {
  operands: ["x"],
  attrs: {},
  sharding: "moves",
  identity: true,
  cost: (types: readonly TensorType[], _attrs: unknown, results: readonly TensorType[]) => ({
    flops: 0,
    bytes: bytesOf(types, results),
  }),
} as const;

export const offload = defineOp({
  ...common,
  name: "offload",
  doc: "Copies a value from device to host memory, on the lane to_host.",
  infer: ([x]) => copy(x, "device", "host"),
  gradient: ({ grads: [dy] }): Gradients => [reload(dy as Value)],
  eval: ([x]) => [x],
});

export const reload = defineOp({
  ...common,
  name: "reload",
  doc: "Copies a value from host to device memory, on the lane to_device.",
  infer: ([x]) => copy(x, "host", "device"),
  gradient: ({ grads: [dy] }): Gradients => [offload(dy as Value)],
  eval: ([x]) => [x],
});

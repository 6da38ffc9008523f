/** @file Copies between the levels of memory, from the device to the host to a file and back, which run on lanes of their own. */
import { defineOp } from "../define-op.ts";
import { UserError } from "../error.ts";
import type { Value } from "../graph.ts";
import type { Gradients } from "../op.ts";
import type { Memory, TensorType } from "../type.ts";
import { bytesOf } from "./cost.ts";

/** As an error says it. */
const PLACES: Readonly<Record<Memory, string>> = {
  device: "device memory",
  host: "host memory",
  file: "a file",
};

function copy(x: TensorType, from: Memory, to: Memory): TensorType[] {
  if (x.memory === to) throw new UserError(`the value is in ${PLACES[to]} already`);
  if (x.memory !== from) throw new UserError(`the value is in ${PLACES[x.memory]}, not in ${PLACES[from]}`);
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

export const spill = defineOp({
  ...common,
  name: "spill",
  doc: "Copies a value from host memory to the rank's file, on the lane to_file.",
  infer: ([x]) => copy(x, "host", "file"),
  gradient: ({ grads: [dy] }): Gradients => [fetch(dy as Value)],
  eval: ([x]) => [x],
});

export const fetch = defineOp({
  ...common,
  name: "fetch",
  doc: "Copies a value from the rank's file to host memory, on the lane from_file.",
  infer: ([x]) => copy(x, "file", "host"),
  gradient: ({ grads: [dy] }): Gradients => [spill(dy as Value)],
  eval: ([x]) => [x],
});

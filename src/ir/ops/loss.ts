/** @file Cross entropy over the vocabulary: sum and count apart, so that any split of the tokens gives the same mean. */
import { scalar, zeros } from "../array.ts";
import { defineOp } from "../define-op.ts";
import { UserError } from "../error.ts";
import type { Gradients } from "../op.ts";
import { elements, sizesOf, tensor } from "../type.ts";
import { bytesOf } from "./cost.ts";

/** The label of a position that does not count (PyTorch's ignore_index). */
export const IGNORED = -100;

export const cross_entropy = defineOp({
  name: "cross_entropy",
  doc:
    "Sum over labelled positions of lse(logits) - logits[label], the number of labelled positions, and the " +
    "log-sum-exp of every labelled position in f32, 0 elsewhere. A label of -100 does not count.",
  operands: ["logits", "labels"],
  results: ["sum", "count", "lse"],
  attrs: {},
  sharding: "...v!, ... -> , , ...",
  infer: ([logits, labels]) => {
    const rows = sizesOf(logits).slice(0, -1);
    if (labels.dtype !== "i32" || sizesOf(labels).join() !== rows.join()) {
      throw new UserError(
        `labels must be i32[${rows.join(", ")}], not ${labels.dtype}[${sizesOf(labels).join(", ")}]`,
      );
    }
    return [tensor("f32", []), tensor("i32", []), tensor("f32", rows)];
  },
  gradient: ({ operands: [logits, labels], results: [, , lse], grads: [dSum, , dLse] }): Gradients => {
    if (dLse) {
      throw new UserError("no gradient passes through the log-sum-exp of cross_entropy", {
        remedy: "Compute what depends on it from the logits: log(sum(exp(logits))).",
      });
    }
    return [dSum && cross_entropy_grad(logits, labels, lse, dSum), null];
  },
  cost: (types, _attrs, results) => ({ flops: 4 * elements(types[0]), bytes: bytesOf(types, results) }),
  eval: ([logits, labels], _attrs, [, , rows]) => {
    const width = logits.sizes[logits.sizes.length - 1];
    const lse = zeros(rows);
    let [total, count] = [0, 0];
    labels.data.forEach((label, row) => {
      if (label === IGNORED) return;
      const values = logits.data.subarray(row * width, (row + 1) * width);
      const max = values.reduce((a, b) => Math.max(a, b), -Infinity);
      lse.data[row] = max + Math.log(values.reduce((sum, value) => sum + Math.exp(value - max), 0));
      total += lse.data[row] - values[label];
      count += 1;
    });
    return [scalar(total), scalar(count), lse];
  },
});

export const cross_entropy_grad = defineOp({
  name: "cross_entropy_grad",
  doc: "Gradient of cross_entropy's sum: d_sum (softmax(logits) - onehot(label)), zero where the label is -100. Made in place.",
  operands: ["logits", "labels", "lse", "d_sum"],
  attrs: {},
  sharding: "...v!, ..., ...,  -> ...v",
  overwrites: [[0, 0]],
  infer: ([logits]) => [tensor(logits.dtype, sizesOf(logits))],
  gradient: null,
  cost: (types, _attrs, results) => ({ flops: 3 * elements(types[0]), bytes: bytesOf(types, results) }),
  eval: ([logits, labels, lse, dSum], _attrs, [sizes]) => {
    const width = sizes[sizes.length - 1];
    const result = zeros(sizes);
    labels.data.forEach((label, row) => {
      if (label === IGNORED) return;
      for (let i = row * width; i < (row + 1) * width; i++) {
        result.data[i] = dSum.data[0] * Math.exp(logits.data[i] - lse.data[row]);
      }
      result.data[row * width + label] -= dSum.data[0];
    });
    return [result];
  },
});

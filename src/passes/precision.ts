/**
 * @file Computes in bf16 while weights, their gradients, the optimizer and all long sums stay in f32.
 *
 * The embedding's result becomes bf16 and everything computed from it follows. Where an f32 weight meets a bf16
 * activation, the weight is cast:
 *
 *     %q = matmul %h, %w transpose_b=true          : f32[1, 8, 16]
 *
 *   becomes
 *
 *     %w.1 = cast %w dtype=bf16                    : bf16[16, 4]
 *     %q = matmul %h, %w.1 transpose_b=true        : bf16[1, 8, 16]
 *
 * Kernels accumulate in f32 and round once per result; the loss, log-sum-exps and rope's tables stay f32. The gradient
 * of a cast is a cast back, so gradients of weights arrive in f32. Half the memory for activations, and the price is
 * bf16's eight bits of mantissa.
 */
import { append } from "../ir/build.ts";
import { ops, recordOf } from "../ir/ops/index.ts";
import { keep, rewrite } from "../ir/rewrite.ts";
import { definePass } from "./pass.ts";

/** Ops whose f32 operands are meant to be f32 beside bf16 ones: tables, log-sum-exps and the loss. */
const MIXED = new Set([
  "rope",
  "cross_entropy",
  "cross_entropy_grad",
  "attention_grad",
  "embedding",
  "cast",
  "repeat",
  "tile",
  "checkpoint",
]);

export const precision = definePass({
  name: "precision",
  summary: "computes activations in bf16, with f32 weights and sums",
  numerics: "changed",
  requires: [],
  establishes: [],
  options: { dtype: "bf16" },

  run(graph, { dtype }) {
    if (dtype === "f32") return graph;
    return rewrite(graph, {
      embedding: (node, { ids, table }) =>
        node.attrs.dtype === dtype ? keep : ops.embedding(ids, table, { ...node.attrs, dtype }),
      any(node, operands) {
        const dtypes = new Set(operands.map((operand) => operand.type.dtype));
        if (MIXED.has(node.op) || !dtypes.has("bf16") || !dtypes.has("f32")) return keep;
        const lowered = operands.map((operand) =>
          operand.type.dtype === "f32" ? ops.cast(operand, { dtype }) : operand,
        );
        return append(recordOf(node.op), lowered, node.attrs);
      },
    });
  },
});

/**
 * @file A pass that changes what ranks exchange: gradients are summed over ranks in bfloat16 instead of float32.
 *
 *     %d.w.1 = all_reduce %d.w axis=dp          : f32[512, 512]
 *
 *   becomes
 *
 *     %d.w.2 = cast %d.w dtype=bf16             : bf16[512, 512]{sum@dp}
 *     %d.w.2.1 = all_reduce %d.w.2 axis=dp      : bf16[512, 512]
 *     %d.w.2.1.1 = cast %d.w.2.1                : f32[512, 512]
 *
 * Half the bytes travel, and gradients have eight bits of precision left, so the numbers are changed by design. What is
 * smaller than `least` elements stays as it is: sums of the loss and the weights of norms cost nothing to send.
 */
import { definePass, elements, keep, ops, rewrite } from "ithaca";

export const reduceInBf16 = definePass({
  name: "reduce-in-bf16",
  summary: "sums gradients over ranks in bfloat16",
  numerics: "changed",
  requires: ["differentiated"],
  establishes: [],
  options: { least: 4096 },

  run(graph, { least }) {
    return rewrite(graph, {
      all_reduce(node, { x }) {
        if (x.type.dtype !== "f32" || elements(x.type) < least) return keep;
        const sum = ops.all_reduce(ops.cast(x, { dtype: "bf16" }), node.attrs);
        return ops.cast(sum, { dtype: "f32" });
      },
    });
  },
});

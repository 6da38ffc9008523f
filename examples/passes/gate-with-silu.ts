/**
 * @file A pass that rewrites: `mul(silu(gate), up)`, as many models write it, becomes one `swiglu`.
 *
 *     %s = silu %gate                 : f32[1, 4096, 1536]
 *     %y = mul %s, %up                : f32[1, 4096, 1536]
 *
 *   becomes
 *
 *     %y = swiglu %gate, %up          : f32[1, 4096, 1536]
 *
 * The same multiplications in the same order, so the numbers are exact. Run `simplify` behind it to drop the unused silu.
 */
import { definePass, keep, type Node, ops, rewrite, sizesOf, type Value } from "ithaca";

export const gateWithSilu = definePass({
  name: "gate-with-silu",
  summary: "makes one op of silu and the product behind it",
  numerics: "exact",
  requires: [],
  establishes: [],
  options: {},

  run(graph) {
    // Handlers see operands of the new graph; what made them is remembered as it goes by.
    const gates = new Map<Value, Value>();
    return rewrite(graph, {
      silu(node, { x }) {
        for (const result of (node as Node).results) gates.set(result, x);
        return keep;
      },
      mul(node, { b }) {
        const gate = gates.get(node.operands[0]);
        const isAlike = gate && sizesOf(gate.type).join() === sizesOf(b.type).join();
        return isAlike ? ops.swiglu(gate, b) : keep;
      },
    });
  },
});

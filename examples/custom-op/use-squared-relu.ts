/**
 * @file A pass that puts our op in: `mul(r, r)` of `r = relu(x)`, as models write it, becomes one `squared_relu`.
 *
 *     %r = relu %x                    : f32[1, 4096, 1536]
 *     %y = mul %r, %r                 : f32[1, 4096, 1536]
 *
 *   becomes
 *
 *     %y = squared_relu %x            : f32[1, 4096, 1536]
 *
 * The same multiplication, so the numbers are exact. Run `simplify` behind it to drop the unused relu.
 */
import { definePass, keep, type Node, rewrite, type Value } from "ithaca";
import { squared_relu } from "./squared_relu.ts";

export const useSquaredRelu = definePass({
  name: "use-squared-relu",
  summary: "makes one op of relu and its square",
  numerics: "exact",
  requires: [],
  establishes: [],
  options: {},

  run(graph) {
    const positive = new Map<Value, Value>();
    return rewrite(graph, {
      relu(node, { x }) {
        for (const result of (node as Node).results) positive.set(result, x);
        return keep;
      },
      mul(node) {
        const [a, b] = node.operands;
        const x = a === b ? positive.get(a) : undefined;
        return x ? squared_relu(x) : keep;
      },
    });
  },
});

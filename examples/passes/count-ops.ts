/** @file A pass that changes nothing: it counts the ops of each kind and reports them on standard error. */
import { allNodes, definePass } from "ithaca";

export const countOps = definePass({
  name: "count-ops",
  summary: "counts the ops of each kind",
  numerics: "exact",
  requires: [],
  establishes: [],
  /** Kinds with fewer are left out. */
  options: { least: 1 },

  run(graph, { least }) {
    const counts = new Map<string, number>();
    for (const { op } of allNodes(graph.nodes)) counts.set(op, (counts.get(op) ?? 0) + 1);
    for (const [op, count] of [...counts].sort(([, a], [, b]) => b - a)) {
      if (count >= least) console.error(`${String(count).padStart(6)}  ${op}`);
    }
    return graph;
  },
});

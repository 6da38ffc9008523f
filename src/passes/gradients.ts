/** @file Which values of a graph are gradients: a memory report counts their bytes as such. */
import { type Graph, type Node, producers, type Value } from "../ir/graph.ts";
import { recordOf } from "../ir/ops/index.ts";

/** What the optimizer reads as gradients, and what they are sums of: the same bytes, before ranks and micro batches added. */
export function gradientsOf({ nodes }: Graph): Set<Value> {
  const gradients = new Set<Value>();
  const makers = producers(nodes);
  const follow = (value: Value, makersHere: ReadonlyMap<Value, Node>): void => {
    gradients.add(value);
    const maker = makersHere.get(value);
    if (!maker) return;
    const at = maker.results.indexOf(value);
    if (recordOf(maker.op).identity) follow(maker.operands[0], makersHere);
    if (maker.op === "repeat") follow(maker.operands[at], makersHere);
    if (maker.op === "checkpoint" && maker.body) follow(maker.body.returns[at], producers(maker.body.nodes));
  };
  for (const node of nodes) if (node.op === "adamw") follow(node.operands[1], makers);
  return gradients;
}

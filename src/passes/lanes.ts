/** @file Which lane a node runs on. */
import type { Node } from "../ir/graph.ts";
import { recordOf } from "../ir/ops/index.ts";
import type { Lane } from "../ir/plan.ts";

/** The lane on which a node runs; `hasCommLane` as in `communicatesApart`. */
export function laneOf(node: Node, hasCommLane: boolean): Lane {
  if (node.op === "offload") return "to_host";
  if (node.op === "reload") return "to_device";
  return isCollective(node) && hasCommLane ? "comm" : "compute";
}

function isCollective(node: Node): boolean {
  return (
    recordOf(node.op).sharding === "moves" &&
    node.operands.length > 0 &&
    node.op !== "offload" &&
    node.op !== "reload"
  );
}

/**
 * Whether collectives have a lane of their own. Lanes order their steps by waits, and a wait between a step inside a loop
 * and one outside would end with the first turn; so in a graph with loops all collectives stay on `compute`.
 */
export function communicatesApart(nodes: readonly Node[]): boolean {
  return !nodes.some(
    (node) =>
      node.op === "repeat" ||
      node.op === "tile" ||
      (node.body !== null && !communicatesApart(node.body.nodes)),
  );
}

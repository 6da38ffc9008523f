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

function loopsCommunicate(nodes: readonly Node[], inLoop: boolean): boolean {
  return nodes.some((node) => {
    const loop = inLoop || node.op === "repeat" || node.op === "tile";
    return (inLoop && isCollective(node)) || (node.body !== null && loopsCommunicate(node.body.nodes, loop));
  });
}

/**
 * Whether collectives have a lane of their own. A communicator takes one call at a time, in the same order on every
 * rank. Where a loop communicates, whose turns are not ordered between lanes, all collectives stay on `compute`.
 */
export function communicatesApart(nodes: readonly Node[]): boolean {
  return !loopsCommunicate(nodes, false);
}

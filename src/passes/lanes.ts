/** @file Which lane a node runs on. */
import type { Node } from "../ir/graph.ts";
import { recordOf } from "../ir/ops/index.ts";
import type { Lane } from "../ir/plan.ts";

/** The lane on which a node runs. */
export function laneOf(node: Node): Lane {
  if (node.op === "offload") return "to_host";
  if (node.op === "reload") return "to_device";
  return isCollective(node) ? "comm" : "compute";
}

function isCollective({ op, operands }: Node): boolean {
  return recordOf(op).sharding === "moves" && operands.length > 0;
}

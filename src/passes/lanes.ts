/** @file Which lane a node runs on. */
import type { Node } from "../ir/graph.ts";
import { type OpName, recordOf } from "../ir/ops/index.ts";
import type { Lane } from "../ir/plan.ts";

/** Of copies between memories. */
const copyLanes: { readonly [K in OpName]?: Lane } = {
  offload: "to_host",
  reload: "to_device",
  spill: "to_file",
  fetch: "from_file",
};

/** The lane on which a node runs. */
export function laneOf(node: Node): Lane {
  return copyLanes[node.op as OpName] ?? (isCollective(node) ? "comm" : "compute");
}

function isCollective({ op, operands }: Node): boolean {
  return recordOf(op).sharding === "moves" && operands.length > 0;
}

/** @file A GPU as the planner sees it: how much scratch each kernel needs. */
import type { Node } from "../../ir/graph.ts";
import { isOpName } from "../../ir/ops/index.ts";
import type { Mesh } from "../../ir/type.ts";
import { addedWorkspaceBytes } from "../added.ts";
import { workspaces } from "./workspaces.ts";

export function cudaTarget(mesh: Mesh): { workspaceBytes(node: Node): number } {
  return {
    workspaceBytes: (node) =>
      isOpName(node.op)
        ? (workspaces[node.op]?.(node as never, mesh, 1) ?? 0)
        : addedWorkspaceBytes(node, mesh, "cuda", 1),
  };
}

/** @file A GPU as the planner sees it: how much scratch each kernel needs. */
import type { Node } from "../../ir/graph.ts";
import type { OpName } from "../../ir/ops/index.ts";
import type { Mesh } from "../../ir/type.ts";
import { workspaces } from "./workspaces.ts";

export function cudaTarget(mesh: Mesh): { workspaceBytes(node: Node): number } {
  return { workspaceBytes: (node) => workspaces[node.op as OpName]?.(node as never, mesh, 1) ?? 0 };
}

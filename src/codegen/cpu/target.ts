/** @file The CPU as the planner sees it: how much scratch each kernel needs. */
import type { Node } from "../../ir/graph.ts";
import { isOpName } from "../../ir/ops/index.ts";
import type { Mesh } from "../../ir/type.ts";
import { addedWorkspaceBytes } from "../added.ts";
import { workspaces } from "./workspace.ts";

/** `threads`: OpenMP threads per rank, for which workspaces are sized. */
export function cpuTarget(mesh: Mesh, threads: number): { workspaceBytes(node: Node): number } {
  return {
    workspaceBytes: (node) =>
      isOpName(node.op)
        ? (workspaces[node.op]?.(node as never, mesh, threads) ?? 0)
        : addedWorkspaceBytes(node, mesh, "cpu", threads),
  };
}

/** @file The CPU as the planner sees it: how much scratch each kernel needs. */
import type { Node } from "../../ir/graph.ts";
import type { OpName } from "../../ir/ops/index.ts";
import type { Mesh } from "../../ir/type.ts";
import { type Kernel, kernels } from "./kernels.ts";

/** `threads`: OpenMP threads per rank, for which workspaces are sized. */
export function cpuTarget(mesh: Mesh, threads: number): { workspaceBytes(node: Node): number } {
  return {
    workspaceBytes(node) {
      const kernel = kernels[node.op as OpName] as unknown as Kernel<"add">;
      return kernel.workspaceBytes?.(node as never, mesh, threads) ?? 0;
    },
  };
}

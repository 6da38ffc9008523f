/** @file The CPU as the planner sees it: how much scratch each kernel needs. */
import type { Node } from "../../ir/graph.ts";
import { isOpName } from "../../ir/ops/index.ts";
import type { Plan } from "../../ir/plan.ts";
import { localSizes, type Mesh } from "../../ir/type.ts";
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

/** Stacks of threads, generated code, and pages of the data that a step reads. */
const PROCESS_BYTES = 3 * 2 ** 20;

/**
 * What a process of `ranks` local ranks has resident beside its arenas, in bytes. Libraries allocate it, so the planner does
 * not place it: the packed operands of one product at a time. oneDNN's sgemm packs, on each thread, up to 384 rows of b's
 * columns, 9,984 of these, and takes 4 MiB more for blocks of a and generated code (measured); the own bf16 products keep
 * one packed block of b.
 */
export function processAllowance({ steps, mesh }: Plan, threads: number, ranks: number): number {
  const products = steps.filter(({ node }) => node.op === "matmul" || node.op === "matmul_add");
  const packed = products.map(({ node }) => threads * packedBytes(node, mesh));
  return PROCESS_BYTES + ranks * Math.max(0, ...packed);
}

/** Of runtime/kernels/cpu/matmul_amx.cc: the deepest block, and the elements of one. */
const BF16_DEPTH = 2048;
const BF16_ELEMENTS = 2 ** 19;

function packedBytes({ op, operands: [a, b], attrs }: Node, mesh: Mesh): number {
  const [left, right] = [localSizes(a.type, mesh), localSizes(b.type, mesh)];
  const isGradient = op === "matmul_add" || attrs.transpose_a === true;
  const depth = isGradient ? left.slice(0, -1).reduce((rows, size) => rows * size, 1) : left[left.length - 1];
  const columns = attrs.transpose_b === true ? right[0] : right[right.length - 1];
  if (a.type.dtype === "f32") return 4 * Math.min(depth, 384) * (Math.min(columns, 9984) + 64) + 2 ** 22;
  const block = Math.min(depth, BF16_DEPTH);
  return 2 * block * (Math.min(columns, BF16_ELEMENTS / block) + 32);
}

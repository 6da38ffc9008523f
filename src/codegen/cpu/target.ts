/** @file The CPU as the planner sees it: how much scratch each kernel needs. */
import type { Node } from "../../ir/graph.ts";
import { isOpName } from "../../ir/ops/index.ts";
import type { Plan } from "../../ir/plan.ts";
import { localSizes, type Mesh } from "../../ir/type.ts";
import { addedWorkspaceBytes } from "../added.ts";
import { product } from "../kernels.ts";
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

/** Stacks of threads, code that libraries generate, and pages of the data that a step reads. */
const PROCESS_BYTES = 4 * 2 ** 20;

/**
 * What a process of `ranks` local ranks has resident beside its arenas, in bytes. Libraries allocate it, so the planner does
 * not place it: the packed operands of one product at a time.
 */
export function processAllowance({ steps, mesh }: Plan, threads: number, ranks: number): number {
  const products = steps.filter(({ node }) => node.op === "matmul" || node.op === "matmul_add");
  const packed = products.map(({ node }) => packedBytes(node, mesh, threads));
  return PROCESS_BYTES + ranks * Math.max(0, ...packed);
}

/** Of runtime/kernels/cpu/matmul_amx.cc: the deepest block, and the elements of one. */
const BF16_DEPTH = 2048;
const BF16_ELEMENTS = 2 ** 19;

/** Of oneDNN's sgemm, as its allocations show: the deepest block, the most of b's columns on a thread, and rows of a. */
const F32_DEPTH = 384;
const F32_COLUMNS = 9984;
const F32_ROWS = 384;
/** So many columns of b it reads where they are; from so many on, threads share what is packed of them. */
const F32_UNPACKED = 512;
const F32_SHARED = 1000;

/** Of all threads of a rank. */
function packedBytes({ op, operands: [a, b], attrs }: Node, mesh: Mesh, threads: number): number {
  const [left, right] = [localSizes(a.type, mesh), localSizes(b.type, mesh)];
  const isGradient = op === "matmul_add" || attrs.transpose_a === true;
  const rows = product(left.slice(0, -1));
  const width = left[left.length - 1];
  const [m, depth] = isGradient ? [width, rows] : [rows, width];
  const columns = attrs.transpose_b === true ? right[0] : right[right.length - 1];
  if (a.type.dtype === "f32") {
    if (columns <= F32_UNPACKED) return 0;
    const block = depth / Math.ceil(depth / F32_DEPTH);
    const packed = columns < F32_SHARED ? threads * columns : Math.min(columns, threads * F32_COLUMNS);
    return 4 * block * (packed + threads * Math.min(m, F32_ROWS));
  }
  const block = Math.min(depth, BF16_DEPTH);
  return threads * 2 * block * (Math.min(columns, BF16_ELEMENTS / block) + 32);
}

/**
 * @file Scratch memory of CPU kernels, in bytes. The kernels state how much they need (`xxx_workspace_bytes` beside each);
 * generated programs check at start that the plan's share is enough.
 */
import type { Node } from "../../ir/graph.ts";
import { localSizes, type Mesh } from "../../ir/type.ts";

/** Blocks in which sums over rows are taken, so that their order does not depend on the threads. */
export function rowBlocks(rows: number): number {
  return rows < 64 * 8 ? Math.ceil(rows / 8) : 64;
}

/** Tiles of queries, keys, values and scores of one thread: enough for a head of `width`. */
function tileBytes(width: number): number {
  return 2 ** 20 + 8192 * width;
}

export function attentionWorkspaceBytes(node: Node, mesh: Mesh, threads: number): number {
  const [, , , width] = localSizes(node.operands[0].type, mesh);
  return threads * tileBytes(width);
}

/** As the forward's, and f32 sums of dk and dv for the key heads that are under way. */
export function attentionGradWorkspaceBytes(node: Node, mesh: Mesh, threads: number): number {
  const [, sequence, , width] = localSizes(node.operands[0].type, mesh);
  return threads * (2 * tileBytes(width) + 2 * (sequence + 256) * (width + 32) * 4);
}

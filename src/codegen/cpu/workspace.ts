/**
 * @file Scratch memory of CPU kernels, in bytes: the formulas of the kernels' headers, where the planner can use them.
 * The two can't drift apart: generated programs hold a static_assert for every workspace that is not a plain count.
 */
import type { Node } from "../../ir/graph.ts";
import { localSizes, type Mesh } from "../../ir/type.ts";
import { exchangeWorkspaces, product, rowsAndColumns, type Workspaces } from "../kernels.ts";

/** Blocks in which sums over rows are taken, so that their order does not depend on the threads. */
export function rowBlocks(rows: number): number {
  return rows < 64 * 8 ? Math.ceil(rows / 8) : 64;
}

/** From this many keys on, threads share every key head. */
const LONG_SEQUENCE = 16384;

interface Heads {
  readonly batch: number;
  readonly keys: number;
  readonly width: number;
  readonly keyHeads: number;
  /** Query heads of each key head. */
  readonly group: number;
  /** `width` filled up to whole vectors. */
  readonly depth: number;
}

function headsOf(node: Node, mesh: Mesh): Heads {
  const [batch, , heads, width] = localSizes(node.operands[0].type, mesh);
  const [, keys, keyHeads] = localSizes(node.operands[1].type, mesh);
  return { batch, keys, width, keyHeads, group: heads / keyHeads, depth: Math.ceil(width / 32) * 32 };
}

/** `attention_workspace_bytes` of runtime/kernels/cpu/attention.h. */
export function attentionWorkspaceBytes(node: Node, mesh: Mesh, threads: number): number {
  const { group, depth } = headsOf(node, mesh);
  const rows = group > 8 ? 48 * group : 384;
  return threads * (rows * (8 * depth + 16) + 768 * depth + 40960);
}

/** `attention_grad_workspace_bytes`: blocks of each thread, and f32 sums of dk and dv for key heads under way. */
export function attentionGradWorkspaceBytes(node: Node, mesh: Mesh, threads: number): number {
  const { batch, keys, width, keyHeads, depth } = headsOf(node, mesh);
  const isBf16 = node.operands[0].type.dtype === "bf16";
  const perThread = Math.max(2 * (1920 * depth + 2048), 2 ** 20) + 1920 * depth + 188416;
  const isUneven = (batch * keyHeads) % threads !== 0;
  const isLong = threads > 1 && keys >= LONG_SEQUENCE;
  const slots = isLong ? (isBf16 ? 1 : 0) : isUneven || isBf16 ? threads : 0;
  return threads * perThread + slots * Math.ceil((2 * keys * width * 4) / 64) * 64;
}

export const workspaces: Workspaces = {
  sum({ operands: [x], attrs: { dims } }, mesh) {
    const sizes = localSizes(x.type, mesh);
    const columns = product(sizes.slice(dims.length));
    return (rowBlocks(product(sizes) / columns) + 1) * columns * 4;
  },
  sum_squares: () => 256 * 8,
  rms_norm_grad({ operands: [x] }, mesh) {
    const [rows, columns] = rowsAndColumns(x.type, mesh);
    return rowBlocks(rows) * columns * 4;
  },
  attention: attentionWorkspaceBytes,
  attention_grad: attentionGradWorkspaceBytes,
  cross_entropy: ({ operands: [logits] }, mesh) => rowsAndColumns(logits.type, mesh)[0] * 4,
  ...exchangeWorkspaces,
};

/**
 * @file Scratch memory of CPU kernels, in bytes: the formulas of the kernels' headers, where the planner can use them.
 * The two can't drift apart: generated programs hold a static_assert for every workspace that is not a plain count.
 */
import type { Node } from "../../ir/graph.ts";
import { localSizes, type Mesh } from "../../ir/type.ts";
import {
  exchangeWorkspaces,
  type ProductNode,
  product,
  productShape,
  rowsAndColumns,
  type Workspaces,
} from "../kernels.ts";

/** Blocks in which sums over rows are taken, so that their order does not depend on the threads. */
export function rowBlocks(rows: number): number {
  return rows < 64 * 8 ? Math.ceil(rows / 8) : 64;
}

/** How an engine cuts a product into blocks: `Blocks` of runtime/kernels/cpu/matmul.h, which says what each is. */
interface Blocks {
  readonly bytes: number;
  readonly unit: number;
  readonly rows: number;
  readonly columns: number;
  readonly deepest: number;
  readonly deepestOnce: number;
  readonly deepestKept: number;
  readonly sumRows: number;
}
const VECTORS = { unit: 1, rows: 16, columns: 48, sumRows: 256 };
const FLOATS: Blocks = { ...VECTORS, bytes: 4, deepest: 384, deepestOnce: 384, deepestKept: 384 };
const PAIRS: Blocks = { ...VECTORS, bytes: 2, unit: 2, deepest: 768, deepestOnce: 768, deepestKept: 768 };
const TILES: Blocks = {
  ...{ bytes: 2, unit: 32, rows: 32, columns: 32 },
  ...{ deepest: 768, deepestOnce: 2048, deepestKept: 1024, sumRows: 1024 },
};
const BLOCK_BYTES = 2 ** 20;

/** `block_bytes`. */
function blockBytes(blocks: Blocks, rows: number, columns: number, sum: number, holdsSums: boolean): number {
  const keepsSums = !holdsSums && sum > blocks.deepestOnce;
  const deepest = holdsSums ? blocks.deepest : keepsSums ? blocks.deepestKept : blocks.deepestOnce;
  const depth = Math.ceil(Math.ceil(sum / Math.ceil(sum / deepest)) / blocks.unit) * blocks.unit;
  const width = Math.min(Math.floor(BLOCK_BYTES / (depth * blocks.bytes)), columns + blocks.columns);
  const sums = keepsSums ? Math.min(blocks.sumRows, rows + blocks.rows) * width * 4 : 0;
  return Math.ceil((depth * blocks.bytes * (width + blocks.rows) + sums) / 64) * 64;
}

/** `matmul_workspace_bytes`. */
function matmulWorkspaceBytes(node: ProductNode, mesh: Mesh, threads: number): number {
  const [rows, columns, sum] = productShape(node, mesh) as readonly [number, number, number];
  const isFloat = node.operands[0].type.dtype === "f32";
  const holdsSums = node.results[0].type.dtype === "f32";
  const engines = isFloat ? [FLOATS] : [FLOATS, PAIRS, TILES];
  return threads * Math.max(...engines.map((blocks) => blockBytes(blocks, rows, columns, sum, holdsSums)));
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
  matmul: matmulWorkspaceBytes,
  matmul_add: matmulWorkspaceBytes,
  attention: attentionWorkspaceBytes,
  attention_grad: attentionGradWorkspaceBytes,
  cross_entropy: ({ operands: [logits] }, mesh) => rowsAndColumns(logits.type, mesh)[0] * 4,
  ...exchangeWorkspaces,
};

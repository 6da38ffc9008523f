/**
 * @file Scratch memory of CUDA kernels, in bytes: the formulas of the headers in runtime/kernels/cuda, for the planner.
 * The two can't drift apart: generated programs hold a static_assert for every workspace that is not a plain count.
 */

/** `row_blocks` of reduce.h: blocks in which sums over rows are taken, the same on every device. */
export function rowBlocks(rows: number): number {
  return rows < 512 * 4 ? Math.ceil(rows / 4) : 512;
}

/** `sum_rows_workspace_bytes` of reduce.h and `rms_norm_grad_workspace_bytes` of norm.h. */
export function rowSumsWorkspaceBytes(rows: number, columns: number): number {
  return rowBlocks(rows) * columns * 4;
}

/** `sum_squares_workspace_bytes` of reduce.h. */
export const SUM_SQUARES_WORKSPACE_BYTES = 1024 * 8;

/** `cross_entropy_workspace_bytes` of loss.h. */
export function crossEntropyWorkspaceBytes(rows: number): number {
  return rows * 4;
}

/** `plain::attention_grad_workspace_bytes` of attention.h; the forward pass needs none. */
export function attentionGradWorkspaceBytes(batch: number, sequence: number, heads: number): number {
  return batch * sequence * heads * 4;
}

/**
 * @file Scratch memory of NVIDIA's libraries, in bytes: the formulas of matmul.h and attention_cudnn.h in
 * runtime/kernels/cuda, for the planner. Upper bounds: the libraries take what they need of it, which depends on their
 * version and the device. Generated programs hold a static_assert for each, so the two can't drift apart.
 */

/** `kMatmulWorkspaceBytes`. */
export const MATMUL_WORKSPACE_BYTES = 32 * 2 ** 20;

/** One rank's share of an attention. */
export interface AttentionSizes {
  readonly batch: number;
  readonly sequenceQ: number;
  readonly sequenceKv: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

const upTo = (multiple: number, count: number): number => Math.ceil(count / multiple) * multiple;

/** What cuDNN asks for besides. */
const LIBRARY_BYTES = 2 ** 20;

/** `attention_rows_bytes`: a float for every query and head. */
const rowsBytes = ({ batch, heads, sequenceQ }: AttentionSizes): number =>
  upTo(256, batch * heads * sequenceQ * 4);

/** `attention_workspace_bytes`. */
export function cudnnAttentionWorkspaceBytes(sizes: AttentionSizes): number {
  return rowsBytes(sizes) + LIBRARY_BYTES;
}

/** `attention_grad_workspace_bytes`: dq in f32, dk and dv of each query head where these share key heads, a sum. */
export function cudnnAttentionGradWorkspaceBytes(sizes: AttentionSizes): number {
  const { batch, sequenceQ, sequenceKv, heads, kvHeads, headDim } = sizes;
  const dq = upTo(256, batch * heads * sequenceQ * headDim * 4);
  const each = heads === kvHeads ? 0 : batch * heads * sequenceKv * headDim * 2;
  const sum = batch * heads * upTo(128, sequenceQ) * headDim * 4;
  return 2 * rowsBytes(sizes) + dq + upTo(256, 2 * each + sum) + LIBRARY_BYTES;
}

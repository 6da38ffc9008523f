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

/** `kAttentionPartBytes`. */
const PART_BYTES = 512 * 2 ** 20;

/** `attention_rows_bytes`: a float for every query and head. */
const rowsBytes = ({ batch, heads, sequenceQ }: AttentionSizes): number =>
  upTo(256, batch * heads * sequenceQ * 4);

/** `attention_ends_bytes`: a number for every key, used where documents are packed. */
const endsBytes = ({ batch, sequenceKv }: AttentionSizes): number => upTo(256, batch * sequenceKv * 4);

/** `attention_workspace_bytes`. */
export function cudnnAttentionWorkspaceBytes(sizes: AttentionSizes): number {
  return rowsBytes(sizes) + endsBytes(sizes) + LIBRARY_BYTES;
}

/** `attention_grad_workspace_bytes`. */
export function cudnnAttentionGradWorkspaceBytes(sizes: AttentionSizes): number {
  return partBytes(partOf(sizes));
}

/** `attention_grad_part_bytes`: dq in f32, dk and dv of each query head where these share key heads, and a sum. */
function partBytes(part: AttentionSizes): number {
  const { batch, sequenceQ, sequenceKv, heads, kvHeads, headDim } = part;
  const dq = upTo(256, batch * heads * sequenceQ * headDim * 4);
  const each = heads === kvHeads ? 0 : batch * heads * sequenceKv * headDim * 2;
  const sum = batch * heads * upTo(128, sequenceQ) * headDim * 4;
  return 2 * rowsBytes(part) + endsBytes(part) + dq + upTo(256, 2 * each + sum) + LIBRARY_BYTES;
}

/** `attention_grad_part`: the key heads, with their queries, that are worked on at a time. */
function partOf(sizes: AttentionSizes): AttentionSizes {
  if (partBytes(sizes) <= PART_BYTES) return sizes;
  const group = sizes.heads / sizes.kvHeads;
  for (let kvHeads = sizes.kvHeads; kvHeads > 1; kvHeads -= 1) {
    if (sizes.kvHeads % kvHeads !== 0) continue;
    const part = { ...sizes, batch: 1, kvHeads, heads: group * kvHeads };
    if (partBytes(part) <= PART_BYTES) return part;
  }
  return { ...sizes, batch: 1, kvHeads: 1, heads: group };
}

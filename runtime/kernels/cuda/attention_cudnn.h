// Attention by cuDNN's fused kernels, on tensor cores: bf16, causal or not, with a window, with shared key heads, over
// packed documents if causal.
//
// The gradient is not the same to the bit in every run: cuDNN adds to dq in the order in which blocks finish.
#pragma once

#include <cstddef>
#include <cstdint>

#include "attention_shape.h"
#include "ithaca/dtype.h"
#include "libraries.h"
#include "stream.h"

namespace ithaca::cuda {

// Whether cuDNN's kernels serve this shape in bf16; those of cuda::plain serve every other. `packed` says that there
// are segments.
constexpr bool cudnn_attention_supported(const AttentionShape& shape, bool packed) {
  return shape.head_dim % 8 == 0 && shape.head_dim <= 128 && shape.softcap == 0 && shape.query_offset == 0 &&
         shape.heads % shape.kv_heads == 0 && (shape.causal || (shape.window == 0 && !packed));
}

// Workspaces, in bytes: upper bounds for every version and device. Rows are log-sum-exps in cuDNN's order, or sums of
// d_out * out; ends are those of packed documents; dq is summed up in f32; the library itself keeps dk and dv of each query head where these share key
// heads, and on sm_80 one more sum in f32.
constexpr std::size_t attention_aligned(std::int64_t bytes) {
  return static_cast<std::size_t>((bytes + 255) / 256 * 256);
}
constexpr std::size_t attention_rows_bytes(const AttentionShape& s) {
  return attention_aligned(s.batch * s.heads * s.sequence_q * 4);
}
constexpr std::size_t attention_ends_bytes(const AttentionShape& s) {
  return attention_aligned(s.batch * s.sequence_kv * 4);
}
constexpr std::size_t attention_dq_bytes(const AttentionShape& s) {
  return attention_aligned(s.batch * s.heads * s.sequence_q * s.head_dim * 4);
}
constexpr std::size_t attention_library_bytes(const AttentionShape&) { return std::size_t{1} << 20; }
constexpr std::size_t attention_grad_library_bytes(const AttentionShape& s) {
  const std::int64_t each = s.heads == s.kv_heads ? 0 : s.batch * s.heads * s.sequence_kv * s.head_dim * 2;
  const std::int64_t sum = s.batch * s.heads * ((s.sequence_q + 127) / 128 * 128) * s.head_dim * 4;
  return attention_aligned(2 * each + sum) + (std::size_t{1} << 20);
}
constexpr std::size_t attention_grad_part_bytes(const AttentionShape& part) {
  return 2 * attention_rows_bytes(part) + attention_ends_bytes(part) + attention_dq_bytes(part) +
         attention_grad_library_bytes(part);
}

// Backward takes some key heads at a time, with their queries, so that its workspace does not grow with the heads: as
// many as keep it below this, which are thousands of blocks, and at least one of one sequence.
#ifndef ITHACA_ATTENTION_PART_BYTES  // a test makes it small
#define ITHACA_ATTENTION_PART_BYTES (std::size_t{512} << 20)
#endif
constexpr std::size_t kAttentionPartBytes = ITHACA_ATTENTION_PART_BYTES;
constexpr AttentionShape attention_grad_part(const AttentionShape& s) {
  if (attention_grad_part_bytes(s) <= kAttentionPartBytes) return s;
  AttentionShape part = s;
  part.batch = 1;
  for (part.kv_heads = s.kv_heads; part.kv_heads > 1; --part.kv_heads) {
    if (s.kv_heads % part.kv_heads != 0) continue;
    part.heads = s.heads / s.kv_heads * part.kv_heads;
    if (attention_grad_part_bytes(part) <= kAttentionPartBytes) return part;
  }
  part.heads = s.heads / s.kv_heads;
  return part;
}

constexpr std::size_t attention_workspace_bytes(const AttentionShape& s) {
  return attention_rows_bytes(s) + attention_ends_bytes(s) + attention_library_bytes(s);
}
constexpr std::size_t attention_grad_workspace_bytes(const AttentionShape& s) {
  return attention_grad_part_bytes(attention_grad_part(s));
}

// q, out [batch, sequence_q, heads, head_dim]; k, v [batch, sequence_kv, kv_heads, head_dim];
// segments i32[batch, sequence_q], non-decreasing along the sequence, or null for one document;
// lse f32[batch, sequence_q, heads] = log of the sum of exp(score). All on the device, 16-byte aligned; the workspace
// begins at a multiple of 256 and has at least the bytes above.
void attention(Libraries& libraries, const AttentionShape& shape, const bf16* q, const bf16* k, const bf16* v,
               const std::int32_t* segments, bf16* out, float* lse, void* workspace, cudaStream_t stream);

// Gradients dq, dk, dv, shaped as q, k, v, from d_out and the forward pass's out and lse.
void attention_grad(Libraries& libraries, const AttentionShape& shape, const bf16* q, const bf16* k, const bf16* v,
                    const std::int32_t* segments, const bf16* out, const float* lse, const bf16* d_out, bf16* dq,
                    bf16* dk, bf16* dv, void* workspace, cudaStream_t stream);

}  // namespace ithaca::cuda

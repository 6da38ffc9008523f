// Exact attention in tiles that stay in shared memory (FlashAttention: Dao et al. 2022, Dao 2023), on CUDA cores.
//
// These serve f32, and the masks and sizes that the library's attention does not take. They use no tensor cores.
#pragma once

#include <cstddef>
#include <cstdint>

#include "attention_shape.h"
#include "stream.h"

namespace ithaca::cuda {

namespace plain {

// Forward needs no workspace; backward keeps sum(d_out * out) of every query and head.
constexpr std::size_t attention_workspace_bytes(const AttentionShape&) { return 0; }
constexpr std::size_t attention_grad_workspace_bytes(const AttentionShape& shape) {
  return static_cast<std::size_t>(shape.batch * shape.sequence_q * shape.heads) * sizeof(float);
}

// q, out [batch, sequence_q, heads, head_dim]; k, v [batch, sequence_kv, kv_heads, head_dim];
// segments i32[batch, sequence_kv], non-decreasing along the sequence, or null for one document (unless it is null,
// all queries stand among the keys); lse f32[batch, sequence_q, heads] = log of the sum of exp(score).
// A query that sees no key gives 0 and an lse of -infinity.
template <typename T>
void attention(const AttentionShape& shape, const T* q, const T* k, const T* v, const std::int32_t* segments, T* out,
               float* lse, void* workspace, cudaStream_t stream);

// Gradients dq, dk, dv, shaped and typed as q, k, v, from d_out and the forward pass's out and lse. No atomics: one
// kernel owns the keys, another the queries.
template <typename T>
void attention_grad(const AttentionShape& shape, const T* q, const T* k, const T* v, const std::int32_t* segments,
                    const T* out, const float* lse, const T* d_out, T* dq, T* dk, T* dv, void* workspace,
                    cudaStream_t stream);

}  // namespace plain

}  // namespace ithaca::cuda

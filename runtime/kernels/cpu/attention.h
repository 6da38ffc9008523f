// Exact attention in tiles that stay in the cache (FlashAttention: Dao et al. 2022, Dao 2023).
#pragma once

#include <cstddef>
#include <cstdint>

#include "bf16_products.h"
#include "ithaca/dtype.h"

namespace ithaca::cpu {

// Query i sees key j iff segments are equal, and j <= i if causal, and i - j < window if window > 0.
// softcap > 0 replaces a score s by softcap * tanh(s / softcap) (Gemma 2). heads is a multiple of kv_heads;
// query head h reads key head h / (heads / kv_heads).
struct AttentionShape {
  std::int64_t batch, sequence_q, sequence_kv, heads, kv_heads, head_dim;
  bool causal;
  std::int64_t window;
  float scale;
  float softcap;
};

// For q of `dtype` and omp_get_max_threads() == `threads`. Both grow with threads, not with the sequence, but for
// bf16 gradients: dk and dv in f32 of the key heads under way at a time.
std::size_t attention_workspace_bytes(const AttentionShape& shape, int threads, DType dtype);
std::size_t attention_grad_workspace_bytes(const AttentionShape& shape, int threads, DType dtype);

// q, out [batch, sequence_q, heads, head_dim]; k, v [batch, sequence_kv, kv_heads, head_dim];
// segments i32[batch, sequence_q], non-decreasing along the sequence, or null for one document (it must be null
// unless sequence_q equals sequence_kv); lse f32[batch, sequence_q, heads] = log of the sum of exp(score).
// A query that sees no key gives 0 and an lse of -infinity.
template <typename T>
void attention(const AttentionShape& shape, const T* q, const T* k, const T* v, const std::int32_t* segments, T* out,
               float* lse, void* workspace);

// Gradients dq, dk, dv, shaped and typed as q, k, v, from d_out and the forward pass's out and lse.
template <typename T>
void attention_grad(const AttentionShape& shape, const T* q, const T* k, const T* v, const std::int32_t* segments,
                    const T* out, const float* lse, const T* d_out, T* dq, T* dk, T* dv, void* workspace);

// How bf16 is multiplied here; attention_use allows no more than the given kind, for tests.
Bf16Products attention_products();
void attention_use(Bf16Products most);

}  // namespace ithaca::cpu

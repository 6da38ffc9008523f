// Exact attention in tiles that stay in the cache (FlashAttention: Dao et al. 2022, Dao 2023).
#pragma once

#include <cstddef>
#include <cstdint>

#include "ithaca/dtype.h"

namespace ithaca::cpu {

// Query i stands at position p = i + query_offset among the keys, and sees key j iff segments are equal, and j <= p if
// causal, and p - j < window if window > 0.
// softcap > 0 replaces a score s by softcap * tanh(s / softcap) (Gemma 2). heads is a multiple of kv_heads;
// query head h reads key head h / (heads / kv_heads).
struct AttentionShape {
  std::int64_t batch, sequence_q, sequence_kv, heads, kv_heads, head_dim;
  bool causal;
  std::int64_t window;
  float scale;
  float softcap;
  std::int64_t query_offset = 0;
};

// Workspace, in bytes: the same on every machine, so that a plan made on one fits another. `threads` is
// omp_get_max_threads() of the thread that will call. Scratch of a thread doesn't grow with the sequence.
constexpr std::size_t attention_thread_bytes(const AttentionShape& shape) {
  const std::int64_t depth = (shape.head_dim + 31) / 32 * 32, group = shape.heads / shape.kv_heads;
  const std::int64_t rows = group > 8 ? 48 * group : 384;
  return static_cast<std::size_t>(rows * (8 * depth + 16) + 768 * depth + 40960);
}
constexpr std::size_t attention_workspace_bytes(const AttentionShape& shape, int threads) {
  return static_cast<std::size_t>(threads) * attention_thread_bytes(shape);
}

// The backward pass also sums dk and dv in f32, [sequence_kv, head_dim] each, in `slots`: one for each thread where
// key heads can't be divided evenly among threads, or where they are bf16 and each is one thread's work.
constexpr std::int64_t kLongSequence = 16384;  // from here on, threads share every key head without slots of their own
constexpr std::size_t attention_grad_thread_bytes(const AttentionShape& shape) {
  const std::int64_t depth = (shape.head_dim + 31) / 32 * 32;
  const std::int64_t blocks = 2 * (1920 * depth + 2048) > (1 << 20) ? 2 * (1920 * depth + 2048) : 1 << 20;
  return static_cast<std::size_t>(blocks + 1920 * depth + 188416);
}
constexpr std::size_t attention_grad_slots(const AttentionShape& shape, int threads, DType dtype) {
  const bool is_long = threads > 1 && shape.sequence_kv >= kLongSequence;
  const bool uneven = shape.batch * shape.kv_heads % threads != 0;
  if (is_long) return dtype == DType::f32 ? 0 : 1;
  return uneven || dtype != DType::f32 ? static_cast<std::size_t>(threads) : 0;
}
constexpr std::size_t attention_grad_slot_bytes(const AttentionShape& shape) {
  return static_cast<std::size_t>((2 * shape.sequence_kv * shape.head_dim * 4 + 63) / 64 * 64);
}
constexpr std::size_t attention_grad_workspace_bytes(const AttentionShape& shape, int threads, DType dtype) {
  return static_cast<std::size_t>(threads) * attention_grad_thread_bytes(shape) +
         attention_grad_slots(shape, threads, dtype) * attention_grad_slot_bytes(shape);
}

// q, out [batch, sequence_q, heads, head_dim]; k, v [batch, sequence_kv, kv_heads, head_dim];
// segments i32[batch, sequence_kv], non-decreasing along the sequence, or null for one document (unless it is null,
// all queries stand among the keys); lse f32[batch, sequence_q, heads] = log of the sum of exp(score).
// A query that sees no key gives 0 and an lse of -infinity.
template <typename T>
void attention(const AttentionShape& shape, const T* q, const T* k, const T* v, const std::int32_t* segments, T* out,
               float* lse, void* workspace);

// Gradients dq, dk, dv, shaped and typed as q, k, v, from d_out and the forward pass's out and lse.
template <typename T>
void attention_grad(const AttentionShape& shape, const T* q, const T* k, const T* v, const std::int32_t* segments,
                    const T* out, const float* lse, const T* d_out, T* dq, T* dk, T* dv, void* workspace);

}  // namespace ithaca::cpu

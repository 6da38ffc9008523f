// The shape of an attention, the same for cuDNN's kernels and our own.
#pragma once

#include <compare>
#include <cstdint>

namespace ithaca::cuda {

// Query i stands at position p = i + query_offset among the keys, and sees key j iff segments are equal, and j <= p if
// causal, and p - j < window if window > 0. softcap > 0 replaces a score s by softcap * tanh(s / softcap) (Gemma 2).
// heads is a multiple of kv_heads; query head h reads key head h / (heads / kv_heads).
struct AttentionShape {
  std::int64_t batch, sequence_q, sequence_kv, heads, kv_heads, head_dim;
  bool causal;
  std::int64_t window;
  float scale;
  float softcap;
  std::int64_t query_offset = 0;

  auto operator<=>(const AttentionShape&) const = default;
};

}  // namespace ithaca::cuda

// Sums over memory of several ranks.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ithaca/dtype.h"
#include "stream.h"

namespace ithaca::cuda {

inline constexpr int kMaxPeers = 64;

// The same array of each rank, wherever it is.
struct Peers {
  const std::byte* data[kMaxPeers];
  int count;
};

// out[i] = the sum over the peers, in their order, of element i; f32 sums for bf16. out may be one of the arrays.
void sum_peers(const Peers& peers, void* out, std::int64_t count, DType dtype, cudaStream_t stream);

}  // namespace ithaca::cuda

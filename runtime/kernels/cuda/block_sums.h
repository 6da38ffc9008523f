// Sums and other reductions over the threads of a warp and of a block.
#pragma once

#include <cuda_runtime.h>

namespace ithaca::cuda {

inline constexpr unsigned kAllLanes = 0xffffffffu;

// Every lane gets the sum over the warp. Both partners of a step add the same two numbers, so that all lanes agree.
template <typename V>
__device__ inline V warp_sum(V value) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(kAllLanes, value, step);
  return value;
}

// Every thread gets the N sums over the block, of at most 1024 threads in whole warps along x. Calls that follow each
// other must take turns with `turn` 0 and 1, so that one barrier is enough.
template <int N, typename V>
__device__ inline void block_sums(V (&values)[N], int turn = 0) {
  __shared__ V warps[2][N][32];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
#pragma unroll
  for (int i = 0; i < N; ++i) values[i] = warp_sum(values[i]);
  if (lane == 0)
#pragma unroll
    for (int i = 0; i < N; ++i) warps[turn][i][warp] = values[i];
  __syncthreads();
  const bool holds = lane < static_cast<int>(blockDim.x) / 32;
#pragma unroll
  for (int i = 0; i < N; ++i) values[i] = warp_sum(holds ? warps[turn][i][lane] : V{});
}

}  // namespace ithaca::cuda

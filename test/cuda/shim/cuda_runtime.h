// Takes the place of the toolkit's cuda_runtime.h: the part of CUDA that Ithaca's kernels use, on fibers of one CPU
// thread. What fibers can't show: tensor cores, memory order between warps, divergence inside a warp.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>
#include <vector>

#include "fibers.h"

#define __global__
#define __device__
#define __host__
#define __shared__ static thread_local
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)

struct uint3 {
  unsigned x, y, z;
};
struct dim3 : uint3 {
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : uint3{x, y, z} {}
};
struct alignas(8) uint2 {
  std::uint32_t x, y;
};
struct alignas(16) uint4 {
  std::uint32_t x, y, z, w;
};
struct alignas(16) int4 {
  std::int32_t x, y, z, w;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline uint4 make_uint4(std::uint32_t x, std::uint32_t y, std::uint32_t z, std::uint32_t w) { return {x, y, z, w}; }
inline int4 make_int4(std::int32_t x, std::int32_t y, std::int32_t z, std::int32_t w) { return {x, y, z, w}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

struct CUstream_st;
using cudaStream_t = CUstream_st*;
enum cudaError_t { cudaSuccess };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t) { return "no error"; }
inline const char* cudaGetErrorName(cudaError_t) { return "cudaSuccess"; }

namespace ithaca::cuda::shim {

// The sizes of the launch that runs, and the thread and the block that this fiber is.
struct Place {
  uint3 thread, block;
  dim3 block_size, grid_size;
};
const Place& place();

// Runs `kernel`, of whose arguments `words` are, once for every thread of every block, a block after the other, or gives
// that to who queues launches. Throws Error on what a GPU refuses (sizes of blocks, grids and shared memory), on a barrier
// that some threads never reach, and what `kernel` throws.
void launch(const char* name, dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream,
            const std::vector<std::uintptr_t>& words, std::function<void()> kernel);

// The words of arguments, and of structs among them that have no padding, in which anything may stand: their pointers, and
// what else is as long.
template <typename... Arguments>
std::vector<std::uintptr_t> words_of(const Arguments&... arguments) {
  std::vector<std::uintptr_t> words;
  [[maybe_unused]] const auto add = [&]<typename T>(const T& argument) {
    if constexpr (std::has_unique_object_representations_v<T> && sizeof(T) % sizeof(std::uintptr_t) == 0) {
      const std::size_t before = words.size();
      words.resize(before + sizeof(T) / sizeof(std::uintptr_t));
      std::memcpy(words.data() + before, static_cast<const void*>(&argument), sizeof(T));
    }
  };
  (add(arguments), ...);
  return words;
}

}  // namespace ithaca::cuda::shim

#define threadIdx (::ithaca::cuda::shim::place().thread)
#define blockIdx (::ithaca::cuda::shim::place().block)
#define blockDim (::ithaca::cuda::shim::place().block_size)
#define gridDim (::ithaca::cuda::shim::place().grid_size)

inline void __syncthreads() { ithaca::cuda::shim::wait_for_block(); }
inline int __syncthreads_or(int value) { return ithaca::cuda::shim::any_of_block(value != 0); }
inline void __syncwarp() { ithaca::cuda::shim::exchange(0); }

// All lanes of the warp must take part, as Ithaca's kernels do.
template <typename V>
V ithaca_shuffle(unsigned lanes, V value, int from) {
  static_assert(sizeof(V) <= 8);
  if (lanes != 0xffffffffu) ithaca::cuda::shim::fail_kernel("a shuffle of some lanes only");
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(V));
  const std::uint64_t* all = ithaca::cuda::shim::exchange(bits);
  V result;
  std::memcpy(&result, all + from, sizeof(V));
  return result;
}
template <typename V>
V __shfl_sync(unsigned lanes, V value, int from) {
  return ithaca_shuffle(lanes, value, from % 32);
}
template <typename V>
V __shfl_xor_sync(unsigned lanes, V value, int mask) {
  return ithaca_shuffle(lanes, value, ithaca::cuda::shim::lane() ^ mask);
}
template <typename V>
V __shfl_up_sync(unsigned lanes, V value, int step) {
  const int lane = ithaca::cuda::shim::lane();
  return ithaca_shuffle(lanes, value, lane >= step ? lane - step : lane);
}
inline unsigned __ballot_sync(unsigned lanes, bool value) {
  if (lanes != 0xffffffffu) ithaca::cuda::shim::fail_kernel("a ballot of some lanes only");
  const std::uint64_t* all = ithaca::cuda::shim::exchange(value ? 1 : 0);
  unsigned result = 0;
  for (int i = 0; i < 32; ++i) result |= static_cast<unsigned>(all[i] & 1u) << i;
  return result;
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline float __uint_as_float(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
inline std::uint32_t __float_as_uint(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

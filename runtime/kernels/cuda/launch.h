// How a kernel is started: by nvcc on a GPU, or by g++ on the fibers of test/cuda/shim, whose cuda_runtime.h is then
// found instead of the toolkit's.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>

#include <cuda_runtime.h>

namespace ithaca::cuda {

// Throws Error, naming the kernel, if it could not be started.
void launch_check(const char* name);

// A block may have at most this much shared memory unless it is asked for.
inline constexpr std::size_t kDefaultSharedBytes = 48 << 10;
// Asks for it; throws Error if the device has less.
void allow_shared_bytes(const char* name, const void* kernel, std::size_t bytes);

// Starts `kernel` on `stream`; `name` is for the message. A grid without blocks is nothing to do.
template <typename... Parameters, typename... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes,
            cudaStream_t stream, Arguments... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
#ifdef __CUDACC__
  if (shared_bytes > kDefaultSharedBytes)
    allow_shared_bytes(name, reinterpret_cast<const void*>(kernel), shared_bytes);
  kernel<<<grid, block, shared_bytes, stream>>>(static_cast<Parameters>(arguments)...);
  launch_check(name);
#else
  shim::launch(name, grid, block, shared_bytes, stream, shim::words_of(arguments...),
               [=] { kernel(static_cast<Parameters>(arguments)...); });
#endif
}

constexpr std::int64_t divide_up(std::int64_t n, std::int64_t by) { return (n + by - 1) / by; }

// Blocks that give every one of `items` a thread of its own, as long as a grid can have them; kernels walk on in steps
// of the grid behind that.
inline dim3 blocks_for(std::int64_t items, int threads) {
  constexpr std::int64_t kMost = (std::int64_t{1} << 31) - 1;
  const std::int64_t blocks = divide_up(items, threads);
  return dim3(static_cast<unsigned>(blocks < kMost ? blocks : kMost));
}

inline bool aligned(const void* pointer, std::size_t bytes) {
  return reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0;
}

// This thread's place in the whole grid, and how many threads it has.
__device__ inline std::int64_t global_thread() {
  return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ inline std::int64_t global_threads() { return static_cast<std::int64_t>(gridDim.x) * blockDim.x; }

// Shared memory of the size given to launch(), 16-byte aligned.
template <typename T>
__device__ inline T* dynamic_shared() {
#ifdef __CUDACC__
  extern __shared__ __align__(16) unsigned char ithaca_dynamic_shared[];
  return reinterpret_cast<T*>(ithaca_dynamic_shared);
#else
  return reinterpret_cast<T*>(shim::dynamic_shared());
#endif
}

// Stops the program with `message` on standard error unless `good`: the error of the next call is cudaErrorAssert.
__device__ inline void require(bool good, const char* message) {
  if (good) return;
#ifdef __CUDACC__
  __assert_fail(message, __FILE__, __LINE__, "require");
#else
  shim::fail_kernel(message);
#endif
}

}  // namespace ithaca::cuda

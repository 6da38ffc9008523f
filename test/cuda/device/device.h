// The simulated device beyond CUDA's own calls: work of libraries and kernels, and what a test may ask.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "cuda_runtime_api.h"

namespace ithaca::cuda::device {

// Bytes that a call reads or writes; they must be inside one allocation.
struct Touch {
  char how;  // 'r' or 'w'; the log has besides 'p', what a kernel has a pointer to
  const void* from;
  std::size_t bytes;
};

// Puts work at the end of a stream. What it throws makes every later call fail. The log gets what it touches.
void enqueue(cudaStream_t stream, std::string name, const std::vector<Touch>& touches, std::function<void()> work);

// Work that other processes have a part in: `begin` runs once all in front of it has ended, `end` once `is_done` says so.
struct Shared {
  std::function<void()> begin;
  std::function<bool()> is_done;
  std::function<void()> end;
};
void enqueue(cudaStream_t stream, std::string name, const std::vector<Touch>& touches, Shared work);

// Throws Error unless [pointer, pointer + bytes) is inside one allocation.
void require_allocated(const char* what, const void* pointer, std::size_t bytes);

}  // namespace ithaca::cuda::device

// The simulated device beyond CUDA's own calls: work of libraries and kernels, and what a test may ask.
#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include "cuda_runtime_api.h"

namespace ithaca::cuda::device {

// Puts work at the end of a stream. What it throws makes every later call fail.
void enqueue(cudaStream_t stream, std::string name, std::function<void()> work);

// Throws Error unless [pointer, pointer + bytes) is inside one allocation.
void require_allocated(const char* what, const void* pointer, std::size_t bytes);

}  // namespace ithaca::cuda::device

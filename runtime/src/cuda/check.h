// CUDA's error codes as errors.
#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "ithaca/error.h"

namespace ithaca::cuda {

// Throws Error naming the call and what CUDA says, unless `code` is cudaSuccess.
inline void check_cuda(cudaError_t code, const std::string& call) {
  if (code == cudaSuccess) return;
  throw Error(call + " failed: " + cudaGetErrorString(code) + " (" + cudaGetErrorName(code) + ")");
}

}  // namespace ithaca::cuda

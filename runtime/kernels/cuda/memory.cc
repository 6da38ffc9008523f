// Copies by CUDA's own engines.
#include "memory.h"

#include "cuda/check.h"

namespace ithaca::cuda {

void copy_bytes(const void* from, void* to, std::size_t bytes, cudaStream_t stream) {
  check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream), "cudaMemcpyAsync");
}

void clear_bytes(void* to, std::size_t bytes, cudaStream_t stream) {
  check_cuda(cudaMemsetAsync(to, 0, bytes, stream), "cudaMemsetAsync");
}

}  // namespace ithaca::cuda

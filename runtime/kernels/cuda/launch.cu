// Errors of starting a kernel, out of line.
#include "launch.h"

#include "ithaca/error.h"

namespace ithaca::cuda {

void launch_check(const char* name) {
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess)
    fail("the kernel ", name, " could not be started: ", cudaGetErrorString(error), " (", cudaGetErrorName(error), ")");
}

void allow_shared_bytes(const char* name, const void* kernel, std::size_t bytes) {
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  if (error == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());  // it would be taken for the next kernel's
  fail("the kernel ", name, " needs ", bytes, " bytes of shared memory in a block, which this GPU does not have: ",
       cudaGetErrorString(error));
}

}  // namespace ithaca::cuda

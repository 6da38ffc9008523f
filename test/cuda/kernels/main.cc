// Compares every CUDA kernel with the CPU's: odd and large sizes, both types, arrays off the 16-byte boundary, threads in
// several orders. The CPU's kernels have tests of their own.
#include "kernel_check.h"

int main() {
  using namespace ithaca::test;
#ifndef __CUDACC__
  test_fibers();
#endif
  test_layout_kernels();
  test_rows_kernels();
  test_sums_kernels();
  test_training_kernels();
  test_attention_kernels();
  std::printf("%d checks, %d failed\n", checks, failures);
  return failures == 0 ? 0 : 1;
}

// Compares every CUDA kernel, compiled by g++ and run on fibers, with the CPU's kernel: odd and large sizes, both types,
// arrays off the 16-byte boundary, threads in several orders. The CPU's kernels have tests of their own.
#include "fiber_check.h"

int main() {
  using namespace ithaca::test;
  test_fibers();
  test_layout_on_fibers();
  test_rows_on_fibers();
  test_sums_on_fibers();
  test_training_on_fibers();
  test_attention_on_fibers();
  std::printf("%d checks, %d failed\n", checks, failures);
  return failures == 0 ? 0 : 1;
}

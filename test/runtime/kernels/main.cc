// Compares every CPU kernel with plain loops in double, at odd sizes, in both types, on one and two threads.
//
// From the repository's root:
//   FLAGS="-std=c++20 -Wall -Wextra -Wpedantic -O3 -march=native -ffp-contract=fast -fno-math-errno -fno-trapping-math"
//   g++ $FLAGS -fopenmp -Iruntime/include -Iruntime {test/runtime/kernels,runtime/kernels/cpu}/*.cc -o kernels_test
// VERBOSE=1 prints the error of every comparison.
#include <omp.h>

#include "check.h"

int main() {
  using namespace ithaca::test;
  for (int threads = 1; threads <= 2; ++threads) {
    omp_set_num_threads(threads);
    test_elementwise();
    test_matmul();
    test_rows();
    test_training();
    test_attention();
  }
  std::printf("%d checks, %d failed\n", checks, failures);
  return failures == 0 ? 0 : 1;
}

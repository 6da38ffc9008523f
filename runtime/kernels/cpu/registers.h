// The innermost loop of products: a block of sums in registers, one step along the summed dimension at a time.
#pragma once

#include <cstdint>

#include "vector.h"

namespace ithaca::cpu {

// One step of f32: a fused multiply-add. What bf16 does instead is in bf16_vector.h.
struct MultiplyAdd {
  using Unit = float;  // of the left side, for all lanes
  using Units = Vector;

  static ITHACA_INLINE Vector step(Vector sum, Unit left, Units right) { return sum + broadcast(left) * right; }
};

// C[Rows][Vectors * kLanes] (+)= sum over k < depth of A(m, k) * B[k][n], with A(m, k) = a[m * lda + k], or
// a[k * lda + m] if TransposeA. The sum is taken by itself before it is added: long sums come out better in blocks.
template <int Rows, int Vectors, bool TransposeA, typename Step = MultiplyAdd>
ITHACA_INLINE void multiply_registers(const typename Step::Unit* a, std::int64_t lda, const typename Step::Unit* b,
                                      std::int64_t ldb, float* c, std::int64_t ldc, std::int64_t depth,
                                      bool accumulate) {
  Vector sum[Rows][Vectors];
#pragma GCC unroll 16
  for (int m = 0; m < Rows; ++m)
#pragma GCC unroll 4
    for (int n = 0; n < Vectors; ++n) {
      sum[m][n] = Vector{};
      // Asked for now, what is to be added to is there at the end.
      __builtin_prefetch(c + m * ldc + n * kLanes, 1);
    }
  for (std::int64_t k = 0; k < depth; ++k) {
    typename Step::Units row[Vectors];
#pragma GCC unroll 4
    for (int n = 0; n < Vectors; ++n) row[n] = load_vector(b + k * ldb + n * kLanes);
#pragma GCC unroll 16
    for (int m = 0; m < Rows; ++m) {
      const typename Step::Unit left = TransposeA ? a[k * lda + m] : a[m * lda + k];
#pragma GCC unroll 4
      for (int n = 0; n < Vectors; ++n) sum[m][n] = Step::step(sum[m][n], left, row[n]);
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < Rows; ++m)
#pragma GCC unroll 4
    for (int n = 0; n < Vectors; ++n) {
      float* to = c + m * ldc + n * kLanes;
      store_vector(to, accumulate ? load_vector(to) + sum[m][n] : sum[m][n]);
    }
}

// Sums of 8 rows by 3 vectors (or 6 by 4) fill 32 registers; 4 by 3 (or 2 by 4) fill 16.
#if defined(__AVX512F__)
inline constexpr int kRowsOf3 = 8;
inline constexpr int kRowsOf4 = 6;
#else
inline constexpr int kRowsOf3 = 4;
inline constexpr int kRowsOf4 = 2;
#endif

}  // namespace ithaca::cpu

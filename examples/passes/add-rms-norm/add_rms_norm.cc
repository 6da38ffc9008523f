// The residual add and the norm behind it, row by row: the sum is still in the cache when it is normalized.
#include <cmath>

#include "ithaca/kernel.h"

/// a, b, h, norm [rows, n]; weight [n]. h may be a, norm may be b.
template <typename T>
void add_rms_norm(ithaca::Tensor<const T> a, ithaca::Tensor<const T> b, ithaca::Tensor<const T> weight,
                  ithaca::Tensor<T> h, ithaca::Tensor<T> norm, double epsilon) {
  const std::int64_t n = weight.count();
  const std::int64_t rows = h.count() / n;
#pragma omp parallel for
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t at = row * n;
    float squares = 0.0f;
#pragma omp simd reduction(+ : squares)
    for (std::int64_t i = 0; i < n; ++i) {
      // What is normalized is the sum as it is stored, rounded to T.
      h.data[at + i] = ithaca::from_float<T>(static_cast<float>(a.data[at + i]) + static_cast<float>(b.data[at + i]));
      const float sum = h.data[at + i];
      squares += sum * sum;
    }
    const float inverse = 1.0f / std::sqrt(squares / static_cast<float>(n) + static_cast<float>(epsilon));
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) {
      norm.data[at + i] = ithaca::from_float<T>(static_cast<float>(h.data[at + i]) * inverse *
                                                static_cast<float>(weight.data[i]));
    }
  }
}

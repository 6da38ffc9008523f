// Squared ReLU on the CPU.
#include "ithaca/kernel.h"

template <typename T>
void squared_relu(ithaca::Tensor<const T> x, ithaca::Tensor<T> result) {
  const std::int64_t count = x.count();
#pragma omp parallel for simd
  for (std::int64_t i = 0; i < count; ++i) {
    const float value = x.data[i];
    const float positive = value < 0.0f ? 0.0f : value;
    result.data[i] = ithaca::from_float<T>(positive * positive);
  }
}

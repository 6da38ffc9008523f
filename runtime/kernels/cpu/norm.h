// Root mean square normalisation (Zhang & Sennrich 2019), as Hugging Face computes it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "reduce.h"

namespace ithaca::cpu {

// y = w * T(x / sqrt(mean(x^2) + eps)) for every row; x, y [rows, columns], w [columns].
template <typename T>
void rms_norm(const T* x, const T* w, T* y, std::int64_t rows, std::int64_t columns, float eps);

// sum = x + residual, then y = rms_norm(sum). `sum` may be `x` or `residual`.
template <typename T>
void add_rms_norm(const T* x, const T* residual, const T* w, T* sum, T* y, std::int64_t rows,
                  std::int64_t columns, float eps);

constexpr std::size_t rms_norm_grad_workspace_bytes(std::int64_t rows, std::int64_t columns) {
  return static_cast<std::size_t>(row_blocks(rows) * columns) * sizeof(float);
}

// dx [rows, columns], dw f32[columns]; the inverse root is computed again from x. dx may be dy.
template <typename T>
void rms_norm_grad(const T* x, const T* w, const T* dy, T* dx, float* dw, std::int64_t rows,
                   std::int64_t columns, float eps, void* workspace);

}  // namespace ithaca::cpu

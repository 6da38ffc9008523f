// Root mean square normalisation (Zhang & Sennrich 2019), as Hugging Face computes it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "reduce.h"
#include "stream.h"

namespace ithaca::cuda {

// y = w * T(x / sqrt(mean(x^2) + eps)) for every row; x, y [rows, columns], w [columns]. y may be x.
template <typename T>
void rms_norm(const T* x, const T* w, T* y, std::int64_t rows, std::int64_t columns, float eps, cudaStream_t stream);

// One row of sums for every block of rows.
constexpr std::size_t rms_norm_grad_workspace_bytes(std::int64_t rows, std::int64_t columns) {
  return static_cast<std::size_t>(row_blocks(rows) * columns) * sizeof(float);
}

// dx [rows, columns], dw f32[columns]; the inverse root is computed again from x. dx may be dy or x.
template <typename T>
void rms_norm_grad(const T* x, const T* w, const T* dy, T* dx, float* dw, std::int64_t rows, std::int64_t columns,
                   float eps, void* workspace, cudaStream_t stream);

}  // namespace ithaca::cuda

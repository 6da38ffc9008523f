// Root mean square normalisation: one row at a time, weight gradients summed over fixed blocks of rows.
#include "norm.h"

#include <algorithm>

#include "elementwise.h"

namespace ithaca::cpu {
namespace {

template <typename T>
float inverse_root(const T* x, std::int64_t columns, float eps) {
  float squares = 0.0f;
#pragma omp simd reduction(+ : squares)
  for (std::int64_t c = 0; c < columns; ++c) squares += load(x + c) * load(x + c);
  return rsqrt(squares / static_cast<float>(columns) + eps);
}

template <typename T>
void normalize(const T* x, const T* w, T* y, std::int64_t columns, float eps) {
  const float inverse = inverse_root(x, columns, eps);
#pragma omp simd
  for (std::int64_t c = 0; c < columns; ++c)
    store(y + c, load(w + c) * float(from_float<T>(load(x + c) * inverse)));
}

}  // namespace

template <typename T>
void rms_norm(const T* x, const T* w, T* y, std::int64_t rows, std::int64_t columns, float eps) {
#pragma omp parallel for schedule(static)
  for (std::int64_t r = 0; r < rows; ++r) normalize(x + r * columns, w, y + r * columns, columns, eps);
}

template <typename T>
void add_rms_norm(const T* x, const T* residual, const T* w, T* sum, T* y, std::int64_t rows,
                  std::int64_t columns, float eps) {
#pragma omp parallel for schedule(static)
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t row = r * columns;
    for (std::int64_t c = row; c < row + columns; ++c) store(sum + c, load(x + c) + load(residual + c));
    normalize(sum + row, w, y + row, columns, eps);
  }
}

template <typename T>
void rms_norm_grad(const T* x, const T* w, const T* dy, T* dx, float* dw, std::int64_t rows,
                   std::int64_t columns, float eps, void* workspace) {
  auto* partial = static_cast<float*>(workspace);
  const std::int64_t blocks = row_blocks(rows);
#pragma omp parallel for schedule(static)
  for (std::int64_t block = 0; block < blocks; ++block) {
    float* sum = partial + block * columns;
    std::fill_n(sum, columns, 0.0f);
    for (std::int64_t r = first_row(block, rows); r < first_row(block + 1, rows); ++r) {
      const T* xr = x + r * columns;
      const T* dyr = dy + r * columns;
      T* dxr = dx + r * columns;
      float squares = 0.0f;
      float dot = 0.0f;
#pragma omp simd reduction(+ : squares, dot)
      for (std::int64_t c = 0; c < columns; ++c) {
        squares += load(xr + c) * load(xr + c);
        dot += load(dyr + c) * load(w + c) * load(xr + c);
      }
      const float inverse = rsqrt(squares / static_cast<float>(columns) + eps);
      // d/dx of x_hat = x * inverse: inverse * (d - x_hat * mean(d * x_hat)).
      const float pull = dot * inverse * inverse / static_cast<float>(columns);
#pragma omp simd
      for (std::int64_t c = 0; c < columns; ++c) {
        const float d = load(dyr + c);
        const float xc = load(xr + c);
        sum[c] += d * float(from_float<T>(xc * inverse));
        store(dxr + c, inverse * (d * load(w + c) - xc * pull));
      }
    }
  }
  add_blocks(partial, dw, blocks, columns);
}

#define ITHACA_INSTANTIATE(T)                                                                                \
  template void rms_norm(const T*, const T*, T*, std::int64_t, std::int64_t, float);                         \
  template void add_rms_norm(const T*, const T*, const T*, T*, T*, std::int64_t, std::int64_t, float);       \
  template void rms_norm_grad(const T*, const T*, const T*, T*, float*, std::int64_t, std::int64_t, float, void*);
ITHACA_INSTANTIATE(float)
ITHACA_INSTANTIATE(bf16)
#undef ITHACA_INSTANTIATE

}  // namespace ithaca::cpu

// Sums in fixed blocks: the order of additions depends on the shape alone.
#include "reduce.h"

#include <algorithm>

#include "elementwise.h"
#include "ithaca/error.h"

namespace ithaca::cpu {

void add_blocks(const float* partial, float* out, std::int64_t blocks, std::int64_t columns, bool accumulate) {
  constexpr std::int64_t kColumns = 256;
#pragma omp parallel for schedule(static)
  for (std::int64_t begin = 0; begin < columns; begin += kColumns) {
    const std::int64_t end = std::min(begin + kColumns, columns);
    if (!accumulate) std::fill(out + begin, out + end, 0.0f);
    for (std::int64_t block = 0; block < blocks; ++block)
#pragma omp simd
      for (std::int64_t c = begin; c < end; ++c) out[c] += partial[block * columns + c];
  }
}

template <typename T>
void sum_squares(const T* x, float* out, std::int64_t n, void* workspace, bool accumulate) {
  constexpr std::int64_t kChunks = 256;  // one double of workspace each
  constexpr std::int64_t kRun = 256;     // elements summed in f32 before they go to the double
  auto* partial = static_cast<double*>(workspace);
  const std::int64_t chunks = std::min<std::int64_t>(kChunks, (n + kRun - 1) / kRun);
#pragma omp parallel for schedule(static)
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
    const std::int64_t end = (chunk + 1) * n / chunks;
    double total = 0.0;
    for (std::int64_t begin = chunk * n / chunks; begin < end; begin += kRun) {
      const std::int64_t stop = std::min(begin + kRun, end);
      float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
      for (std::int64_t i = begin; i < stop; ++i) sum += load(x + i) * load(x + i);
      total += static_cast<double>(sum);
    }
    partial[chunk] = total;
  }
  double total = accumulate ? static_cast<double>(*out) : 0.0;
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk) total += partial[chunk];
  *out = static_cast<float>(total);
}

template <typename T, typename O>
void sum_rows(const T* x, O* out, std::int64_t rows, std::int64_t columns, void* workspace) {
  auto* partial = static_cast<float*>(workspace);
  const std::int64_t blocks = row_blocks(rows);
#pragma omp parallel for schedule(static)
  for (std::int64_t block = 0; block < blocks; ++block) {
    float* sum = partial + block * columns;
    std::fill_n(sum, columns, 0.0f);
    for (std::int64_t r = first_row(block, rows); r < first_row(block + 1, rows); ++r)
#pragma omp simd
      for (std::int64_t c = 0; c < columns; ++c) sum[c] += load(x + r * columns + c);
  }
  float* total = partial + blocks * columns;
  add_blocks(partial, total, blocks, columns);
  cast(total, out, columns);
}

template <typename T, typename O>
void reduce_sum(const T* x, const std::int64_t* dims, int rank, unsigned reduced, O* out) {
  if (rank > 8) fail("reduce_sum: rank ", rank, " is more than 8");
  std::int64_t kept_dims[8], kept_strides[8], sum_dims[8], sum_strides[8];
  std::int64_t stride = 1, outputs = 1, terms = 1;
  int kept = 0, sums = 0;  // innermost first
  for (int d = rank - 1; d >= 0; --d) {
    const bool sum = (reduced >> d) & 1u;
    (sum ? sum_dims[sums] : kept_dims[kept]) = dims[d];
    (sum ? sum_strides[sums++] : kept_strides[kept++]) = stride;
    (sum ? terms : outputs) *= dims[d];
    stride *= dims[d];
  }
  const auto offset = [](std::int64_t index, const std::int64_t* sizes, const std::int64_t* strides, int count) {
    std::int64_t at = 0;
    for (int d = 0; d < count; ++d) {
      at += index % sizes[d] * strides[d];
      index /= sizes[d];
    }
    return at;
  };
#pragma omp parallel for schedule(static)
  for (std::int64_t o = 0; o < outputs; ++o) {
    const T* base = x + offset(o, kept_dims, kept_strides, kept);
    double total = 0.0;
    if (sums == 1) {
      for (std::int64_t t = 0; t < terms; ++t) total += static_cast<double>(load(base + t * sum_strides[0]));
    } else {
      for (std::int64_t t = 0; t < terms; ++t)
        total += static_cast<double>(load(base + offset(t, sum_dims, sum_strides, sums)));
    }
    store(out + o, static_cast<float>(total));
  }
}

template void sum_squares(const float*, float*, std::int64_t, void*, bool);
template void sum_squares(const bf16*, float*, std::int64_t, void*, bool);
#define ITHACA_INSTANTIATE(T, O)                                                            \
  template void sum_rows(const T*, O*, std::int64_t, std::int64_t, void*);                  \
  template void reduce_sum(const T*, const std::int64_t*, int, unsigned, O*);
ITHACA_INSTANTIATE(float, float)
ITHACA_INSTANTIATE(bf16, bf16)
ITHACA_INSTANTIATE(bf16, float)
#undef ITHACA_INSTANTIATE

}  // namespace ithaca::cpu

// Embedding: threads share the rows going forward, the columns going backward.
#include "embedding.h"

#include <algorithm>

#include "elementwise.h"
#include "ithaca/error.h"

namespace ithaca::cpu {
namespace {

void check_ids(const std::int32_t* ids, std::int64_t rows, std::int64_t vocabulary) {
  for (std::int64_t r = 0; r < rows; ++r)
    if (ids[r] < 0 || ids[r] >= vocabulary)
      fail("embedding: token ", ids[r], " at position ", r, " is outside the vocabulary of ", vocabulary,
           "; was the data made with another tokenizer?");
}

}  // namespace

template <typename T, typename O>
void embedding(const std::int32_t* ids, const T* table, O* out, std::int64_t rows, std::int64_t columns,
               std::int64_t vocabulary) {
  check_ids(ids, rows, vocabulary);
#pragma omp parallel for schedule(static)
  for (std::int64_t r = 0; r < rows; ++r) {
    const T* from = table + ids[r] * columns;
    O* to = out + r * columns;
#pragma omp simd
    for (std::int64_t c = 0; c < columns; ++c) store(to + c, load(from + c));
  }
}

template <typename T>
void embedding_grad(const std::int32_t* ids, const T* d_out, float* d_table, std::int64_t rows,
                    std::int64_t columns, std::int64_t vocabulary, bool accumulate) {
  check_ids(ids, rows, vocabulary);
  if (!accumulate) {
    const std::int64_t n = vocabulary * columns;
#pragma omp parallel for simd schedule(static)
    for (std::int64_t i = 0; i < n; ++i) d_table[i] = 0.0f;
  }
  constexpr std::int64_t kColumns = 64;
#pragma omp parallel for schedule(static)
  for (std::int64_t begin = 0; begin < columns; begin += kColumns) {
    const std::int64_t end = std::min(begin + kColumns, columns);
    for (std::int64_t r = 0; r < rows; ++r) {
      const T* from = d_out + r * columns;
      float* to = d_table + ids[r] * columns;
#pragma omp simd
      for (std::int64_t c = begin; c < end; ++c) to[c] += load(from + c);
    }
  }
}

#define ITHACA_INSTANTIATE(T, O) \
  template void embedding(const std::int32_t*, const T*, O*, std::int64_t, std::int64_t, std::int64_t);
ITHACA_INSTANTIATE(float, float)
ITHACA_INSTANTIATE(float, bf16)
ITHACA_INSTANTIATE(bf16, bf16)
#undef ITHACA_INSTANTIATE
template void embedding_grad(const std::int32_t*, const float*, float*, std::int64_t, std::int64_t, std::int64_t, bool);
template void embedding_grad(const std::int32_t*, const bf16*, float*, std::int64_t, std::int64_t, std::int64_t, bool);

}  // namespace ithaca::cpu

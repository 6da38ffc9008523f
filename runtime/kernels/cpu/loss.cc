// Cross entropy: two passes over a row, which stays in the second-level cache between them.
#include "loss.h"

#include <algorithm>
#include <cmath>

#include "elementwise.h"
#include "ithaca/error.h"

namespace ithaca::cpu {

template <typename T>
void cross_entropy(const T* logits, const std::int32_t* labels, float* loss_sum, std::int32_t* count, float* lse,
                   std::int64_t rows, std::int64_t vocabulary, void* workspace) {
  auto* losses = static_cast<float*>(workspace);
  for (std::int64_t r = 0; r < rows; ++r)
    if (labels[r] != kIgnoredLabel && (labels[r] < 0 || labels[r] >= vocabulary))
      fail("cross_entropy: label ", labels[r], " in row ", r, " is outside the vocabulary of ", vocabulary,
           "; was the data made with another tokenizer?");
#pragma omp parallel for schedule(static)
  for (std::int64_t r = 0; r < rows; ++r) {
    lse[r] = 0.0f;
    losses[r] = 0.0f;
    if (labels[r] == kIgnoredLabel) continue;
    const T* row = logits + r * vocabulary;
    float largest = -INFINITY;
#pragma omp simd reduction(max : largest)
    for (std::int64_t v = 0; v < vocabulary; ++v) largest = std::max(largest, load(row + v));
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t v = 0; v < vocabulary; ++v) sum += exp(load(row + v) - largest);
    lse[r] = largest + log(sum);
    losses[r] = lse[r] - load(row + labels[r]);
  }
  double total = 0.0;
  std::int32_t labelled = 0;
  for (std::int64_t r = 0; r < rows; ++r) {
    total += static_cast<double>(losses[r]);
    labelled += labels[r] != kIgnoredLabel;
  }
  *loss_sum = static_cast<float>(total);
  *count = labelled;
}

template <typename T>
void cross_entropy_grad(const T* logits, const std::int32_t* labels, const float* lse, const float* d_loss,
                        T* d_logits, std::int64_t rows, std::int64_t vocabulary) {
  const float scale = *d_loss;
#pragma omp parallel for schedule(static)
  for (std::int64_t r = 0; r < rows; ++r) {
    T* to = d_logits + r * vocabulary;
    if (labels[r] == kIgnoredLabel) {
      std::fill_n(to, vocabulary, from_float<T>(0.0f));
      continue;
    }
    const T* from = logits + r * vocabulary;
    const float at_label = scale * (exp(load(from + labels[r]) - lse[r]) - 1.0f);
    const float shift = lse[r];
#pragma omp simd
    for (std::int64_t v = 0; v < vocabulary; ++v) store(to + v, scale * exp(load(from + v) - shift));
    store(to + labels[r], at_label);
  }
}

#define ITHACA_INSTANTIATE(T)                                                                                     \
  template void cross_entropy(const T*, const std::int32_t*, float*, std::int32_t*, float*, std::int64_t,         \
                              std::int64_t, void*);                                                               \
  template void cross_entropy_grad(const T*, const std::int32_t*, const float*, const float*, T*, std::int64_t,   \
                                   std::int64_t);
ITHACA_INSTANTIATE(float)
ITHACA_INSTANTIATE(bf16)
#undef ITHACA_INSTANTIATE

}  // namespace ithaca::cpu

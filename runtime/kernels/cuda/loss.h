// Cross entropy over a vocabulary, with Hugging Face's ignore_index of -100.
#pragma once

#include <cstddef>
#include <cstdint>

#include "stream.h"

namespace ithaca::cuda {

inline constexpr std::int32_t kIgnoredLabel = -100;

// The loss of every row.
constexpr std::size_t cross_entropy_workspace_bytes(std::int64_t rows) {
  return static_cast<std::size_t>(rows) * sizeof(float);
}

// logits [rows, vocabulary], labels i32[rows]. loss_sum[0] = sum over labelled rows of lse - logits[label],
// count[0] = how many rows are labelled, lse f32[rows] = log(sum(exp(logits))), 0 in rows without a label. Reads the
// logits once (online softmax: Milakov & Gimelshein 2018). A label that is neither -100 nor a token of the vocabulary
// stops the program with a message.
template <typename T>
void cross_entropy(const T* logits, const std::int32_t* labels, float* loss_sum, std::int32_t* count, float* lse,
                   std::int64_t rows, std::int64_t vocabulary, void* workspace, cudaStream_t stream);

// d_logits = d_loss[0] * (softmax(logits) - onehot(label)), 0 in rows without a label. d_logits may be logits.
template <typename T>
void cross_entropy_grad(const T* logits, const std::int32_t* labels, const float* lse, const float* d_loss,
                        T* d_logits, std::int64_t rows, std::int64_t vocabulary, cudaStream_t stream);

}  // namespace ithaca::cuda

// Rotary position embedding (Su et al. 2021), in Hugging Face's "rotate_half" pairing.
#pragma once

#include <cstdint>

#include "stream.h"

namespace ithaca::cuda {

// cos, sin f32[rows, half]: of the angle float(position) * inv_freq, as Hugging Face rounds it, times `scaling`
// (1 for most models). inv_freq f32[half] is in host memory and is read before the call returns.
void rope_table(const std::int32_t* positions, const float* inv_freq, float* cos, float* sin, std::int64_t rows,
                std::int64_t half, float scaling, cudaStream_t stream);

// Rotates the pairs (i, i + D/2) of every head; x, y [rows, heads, head_dim], cos and sin [rows, head_dim / 2].
// `inverse` turns by the opposite angle, which is the gradient. y may be x.
template <typename T>
void rope(const T* x, const float* cos, const float* sin, T* y, std::int64_t rows, std::int64_t heads,
          std::int64_t head_dim, bool inverse, cudaStream_t stream);

}  // namespace ithaca::cuda

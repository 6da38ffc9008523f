// AdamW (Loshchilov & Hutter 2019) with PyTorch's rounding of the single-tensor form.
#pragma once

#include <cstdint>

#include "stream.h"

namespace ithaca::cuda {

// One update of n elements in one pass. The gradient is multiplied by grad_scale[0] as it is read;
// learning_rate f32[], step i32[] (1 for the first update) and grad_scale f32[] live on the device.
//   param *= 1 - lr * weight_decay;  m += (1 - beta1) * (g - m);  v = beta2 * v + (1 - beta2) * g * g
//   param -= lr / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + epsilon)
void adamw(float* param, const float* grad, float* m, float* v, std::int64_t n, const float* learning_rate,
           const std::int32_t* step, const float* grad_scale, double beta1, double beta2, double epsilon,
           double weight_decay, cudaStream_t stream);

}  // namespace ithaca::cuda

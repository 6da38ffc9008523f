// AdamW: bound by memory bandwidth, so that everything happens in one pass.
#include "optimizer.h"

#include <cmath>

namespace ithaca::cpu {

void adamw(float* param, const float* grad, float* m, float* v, std::int64_t n, const float* learning_rate,
           const std::int32_t* step, const float* grad_scale, double beta1, double beta2, double epsilon,
           double weight_decay) {
  // The scalars are made in double and rounded once, as PyTorch's Python code does.
  const double rate = static_cast<double>(*learning_rate);
  const double correction1 = 1.0 - std::pow(beta1, *step);
  const double correction2 = std::sqrt(1.0 - std::pow(beta2, *step));
  const float scale = *grad_scale;
  const float keep = static_cast<float>(1.0 - rate * weight_decay);
  const float weight1 = static_cast<float>(1.0 - beta1);
  const float decay2 = static_cast<float>(beta2);
  const float weight2 = static_cast<float>(1.0 - beta2);
  const float root2 = static_cast<float>(correction2);
  const float eps = static_cast<float>(epsilon);
  const float step_size = static_cast<float>(-rate / correction1);
#pragma omp parallel for simd schedule(static)
  for (std::int64_t i = 0; i < n; ++i) {
    const float g = grad[i] * scale;
    const float first = m[i] + weight1 * (g - m[i]);
    const float second = v[i] * decay2 + weight2 * g * g;
    m[i] = first;
    v[i] = second;
    param[i] = param[i] * keep + step_size * first / (std::sqrt(second) / root2 + eps);
  }
}

}  // namespace ithaca::cpu

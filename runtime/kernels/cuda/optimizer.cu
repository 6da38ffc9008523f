// AdamW: bound by memory bandwidth, so that everything happens in one pass.
#include "optimizer.h"

#include "elementwise.h"
#include "launch.h"

namespace ithaca::cuda {
namespace {

// beta^step, step >= 0, by squaring; a few units in the last place of a double, which the caller rounds to f32.
__device__ inline double power(double beta, std::int32_t step) {
  double result = 1.0;
  for (; step > 0; step >>= 1, beta *= beta)
    if (step & 1) result *= beta;
  return result;
}

struct Settings {
  double beta1, beta2, epsilon, weight_decay;
};

// What an update needs, made in double and rounded once, as PyTorch's Python code does.
struct Update {
  float scale, keep, weight1, decay2, weight2, root2, eps, step_size;

  __device__ Update(const Settings& s, const float* learning_rate, const std::int32_t* step, const float* grad_scale) {
    const double rate = static_cast<double>(*learning_rate);
    scale = *grad_scale;
    keep = static_cast<float>(1.0 - rate * s.weight_decay);
    weight1 = static_cast<float>(1.0 - s.beta1);
    decay2 = static_cast<float>(s.beta2);
    weight2 = static_cast<float>(1.0 - s.beta2);
    root2 = static_cast<float>(::sqrt(1.0 - power(s.beta2, *step)));
    eps = static_cast<float>(s.epsilon);
    step_size = static_cast<float>(-rate / (1.0 - power(s.beta1, *step)));
  }

  __device__ void operator()(float& param, float grad, float& m, float& v) const {
    const float g = grad * scale;
    m = m + weight1 * (g - m);
    v = v * decay2 + weight2 * g * g;
    param = param * keep + step_size * m / (sqrt(v) / root2 + eps);
  }
};

template <int N>
__global__ void __launch_bounds__(256)
    adamw_kernel(float* param, const float* grad, float* m, float* v, std::int64_t begin, std::int64_t end,
                 const float* learning_rate, const std::int32_t* step, const float* grad_scale, Settings settings) {
  const Update update(settings, learning_rate, step, grad_scale);
  for (std::int64_t i = begin + global_thread() * N; i < end; i += global_threads() * N) {
    auto p = load<N>(param + i);
    const auto g = load<N>(grad + i);
    auto first = load<N>(m + i);
    auto second = load<N>(v + i);
#pragma unroll
    for (int k = 0; k < N; ++k) update(p[k], g[k], first[k], second[k]);
    store<N>(param + i, p);
    store<N>(m + i, first);
    store<N>(v + i, second);
  }
}

}  // namespace

void adamw(float* param, const float* grad, float* m, float* v, std::int64_t n, const float* learning_rate,
           const std::int32_t* step, const float* grad_scale, double beta1, double beta2, double epsilon,
           double weight_decay, cudaStream_t stream) {
  constexpr int kThreads = 256;
  // A thread makes the scalars once and walks on: no more blocks than keep a large GPU busy several times over.
  constexpr unsigned kBlocks = 4096;
  const Settings settings{beta1, beta2, epsilon, weight_decay};
  const std::int64_t packs = wide_pointers(param, grad, m, v) ? n / 4 : 0;
  const auto start = [&](auto kernel, std::int64_t threads, std::int64_t begin, std::int64_t end) {
    const dim3 grid = blocks_for(threads, kThreads);
    launch("adamw", kernel, grid.x < kBlocks ? grid.x : kBlocks, kThreads, 0, stream, param, grad, m, v, begin, end,
           learning_rate, step, grad_scale, settings);
  };
  start(adamw_kernel<4>, packs, 0, packs * 4);
  start(adamw_kernel<1>, n - packs * 4, packs * 4, n);
}

}  // namespace ithaca::cuda

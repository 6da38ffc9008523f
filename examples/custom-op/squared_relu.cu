// Squared ReLU on a GPU.
#include "cuda/elementwise.h"
#include "ithaca/kernel.h"

template <typename T>
__global__ void square_positive(const T* x, T* y, std::int64_t count) {
  using namespace ithaca::cuda;
  for (std::int64_t i = global_thread(); i < count; i += global_threads()) {
    const float positive = relu(load(x + i));
    store(y + i, positive * positive);
  }
}

template <typename T>
void squared_relu(ithaca::Tensor<const T> x, ithaca::Tensor<T> result, cudaStream_t stream) {
  constexpr int kThreads = 256;
  ithaca::cuda::launch("squared_relu", square_positive<T>, ithaca::cuda::blocks_for(x.count(), kThreads), kThreads, 0,
                       stream, x.data, result.data, x.count());
}

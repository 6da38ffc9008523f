// Sums over memory of several ranks, each element by one thread in rank order, so every run gives the same bits.
#include "sum_peers.h"

#include "elementwise.h"
#include "launch.h"

namespace ithaca::cuda {

namespace {

template <typename T>
struct Sum {
  Peers peers;
  T* out;

  template <int N>
  __device__ void run(std::int64_t i, std::int64_t, std::int64_t) const {
    auto total = load<N>(reinterpret_cast<const T*>(peers.data[0]) + i);
    for (int r = 1; r < peers.count; ++r) {
      const auto more = load<N>(reinterpret_cast<const T*>(peers.data[r]) + i);
#pragma unroll
      for (int k = 0; k < N; ++k) total[k] += more[k];
    }
    store<N>(out + i, total);
  }
};

template <typename T>
void sum(const Peers& peers, void* out, std::int64_t count, cudaStream_t stream) {
  bool wide = aligned(out, 16);
  for (int r = 0; r < peers.count; ++r) wide = wide && aligned(peers.data[r], 16);
  run_loop("sum_peers", Sum<T>{peers, static_cast<T*>(out)}, 1, count, wide, stream);
}

}  // namespace

void sum_peers(const Peers& peers, void* out, std::int64_t count, DType dtype, cudaStream_t stream) {
  if (dtype == DType::f32) sum<float>(peers, out, count, stream);
  if (dtype == DType::bf16) sum<bf16>(peers, out, count, stream);
  if (dtype == DType::i32) sum<std::int32_t>(peers, out, count, stream);
}

}  // namespace ithaca::cuda

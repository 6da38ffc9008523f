// Rotary position embedding; the table's angles are reduced and evaluated in double, as on the CPU.
#include "rope.h"

#include "elementwise.h"
#include "launch.h"

namespace ithaca::cuda {
namespace {

constexpr int kFrequencies = 128;

// Handed over by value, so that the host's array may go away.
struct Frequencies {
  float values[kFrequencies];
};

// Columns [first, first + count) of the table.
__global__ void rope_table_kernel(const std::int32_t* positions, Frequencies frequencies, float* cos, float* sin,
                                  std::int64_t rows, std::int64_t half, std::int64_t first, int count, float scaling) {
  for (std::int64_t at = global_thread(); at < rows * count; at += global_threads()) {
    const std::int64_t row = at / count;
    const int i = static_cast<int>(at - row * count);
    const float angle = static_cast<float>(positions[row]) * frequencies.values[i];
    double sine, cosine;
    ::sincos(static_cast<double>(angle), &sine, &cosine);
    cos[row * half + first + i] = static_cast<float>(cosine) * scaling;
    sin[row * half + first + i] = static_cast<float>(sine) * scaling;
  }
}

// A thread turns N pairs of one head.
template <typename T, int N, typename Index>
__global__ void rope_kernel(const T* x, const float* cos, const float* sin, T* y, Index units, Index heads, Index half,
                            float direction) {
  const Index runs = half / N;
  for (auto at = static_cast<Index>(global_thread()); at < units; at += static_cast<Index>(global_threads())) {
    const Index head = at / runs;  // of all rows
    const Index i = (at - head * runs) * N;
    const Index row = head / heads;
    const std::int64_t turn = static_cast<std::int64_t>(row) * half + i;
    const std::int64_t from = static_cast<std::int64_t>(head) * 2 * half + i;
    auto first = load<N>(x + from);
    auto second = load<N>(x + from + half);
    const auto c = load<N>(cos + turn);
    const auto s = load<N>(sin + turn);
#pragma unroll
    for (int k = 0; k < N; ++k) {
      const float sine = s[k] * direction;
      const float a = first[k];
      const float b = second[k];
      first[k] = a * c[k] - b * sine;
      second[k] = b * c[k] + a * sine;
    }
    store<N>(y + from, first);
    store<N>(y + from + half, second);
  }
}

}  // namespace

void rope_table(const std::int32_t* positions, const float* inv_freq, float* cos, float* sin, std::int64_t rows,
                std::int64_t half, float scaling, cudaStream_t stream) {
  for (std::int64_t first = 0; first < half; first += kFrequencies) {
    const auto count = static_cast<int>(half - first < kFrequencies ? half - first : kFrequencies);
    Frequencies frequencies = {};
    for (int i = 0; i < count; ++i) frequencies.values[i] = inv_freq[first + i];
    launch("rope_table", rope_table_kernel, blocks_for(rows * count, 128), 128, 0, stream, positions, frequencies, cos,
           sin, rows, half, first, count, scaling);
  }
}

template <typename T>
void rope(const T* x, const float* cos, const float* sin, T* y, std::int64_t rows, std::int64_t heads,
          std::int64_t head_dim, bool inverse, cudaStream_t stream) {
  constexpr int kThreads = 256;
  const std::int64_t half = head_dim / 2;
  const float direction = inverse ? -1.0f : 1.0f;
  const auto start = [&]<int N, typename Index>(Index) {
    const std::int64_t units = rows * heads * (half / N);
    launch("rope", rope_kernel<T, N, Index>, blocks_for(units, kThreads), kThreads, 0, stream, x, cos, sin, y,
           static_cast<Index>(units), static_cast<Index>(heads), static_cast<Index>(half), direction);
  };
  const bool wide = wide_pointers(x, cos, sin, y) && half % kWide<T> == 0;
  const bool small = rows * heads * half < std::int64_t{1} << 31;
  if (wide)
    small ? start.template operator()<kWide<T>>(std::uint32_t{}) : start.template operator()<kWide<T>>(std::int64_t{});
  else
    small ? start.template operator()<1>(std::uint32_t{}) : start.template operator()<1>(std::int64_t{});
}

template void rope(const float*, const float*, const float*, float*, std::int64_t, std::int64_t, std::int64_t, bool,
                   cudaStream_t);
template void rope(const bf16*, const float*, const float*, bf16*, std::int64_t, std::int64_t, std::int64_t, bool,
                   cudaStream_t);

}  // namespace ithaca::cuda

// Cross entropy: every row is read once going forward, its running maximum and sum kept by each thread.
#include "loss.h"

#include "block_sums.h"
#include "elementwise.h"
#include "launch.h"

namespace ithaca::cuda {
namespace {

constexpr int kThreads = 512;

// The sum of exp(x - largest) over what was seen so far.
struct RunningSum {
  float largest = -INFINITY, sum = 0.0f;

  // exp(from - to), where both may be -infinity.
  __device__ static float shift(float from, float to) { return from == to ? 1.0f : exp(from - to); }

  template <int N>
  __device__ void add(const Pack<float, N>& values) {
    float most = largest;
#pragma unroll
    for (int i = 0; i < N; ++i) most = values[i] > most ? values[i] : most;
    sum *= shift(largest, most);
    largest = most;
    const float zero = most == -INFINITY ? 0.0f : most;
#pragma unroll
    for (int i = 0; i < N; ++i) sum += exp(values[i] - zero);
  }
  __device__ void add(const RunningSum& other) {
    const float most = other.largest > largest ? other.largest : largest;
    sum = sum * shift(largest, most) + other.sum * shift(other.largest, most);
    largest = most;
  }
};

// The sum over the block, in its first thread.
__device__ inline RunningSum block_total(RunningSum own) {
  __shared__ float largest[32], sums[32];
  const auto across = [](RunningSum& mine) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) {
      RunningSum other;
      other.largest = __shfl_xor_sync(kAllLanes, mine.largest, step);
      other.sum = __shfl_xor_sync(kAllLanes, mine.sum, step);
      mine.add(other);
    }
  };
  across(own);
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  if (lane == 0) largest[warp] = own.largest, sums[warp] = own.sum;
  __syncthreads();
  own = lane < blockDim.x / 32 ? RunningSum{largest[lane], sums[lane]} : RunningSum{};
  across(own);
  return own;
}

// How many elements of a row come before its first 16-byte boundary.
template <typename T>
__device__ inline std::int64_t misaligned(const T* row, std::int64_t n) {
  const auto bytes = static_cast<std::int64_t>((16 - reinterpret_cast<std::uintptr_t>(row) % 16) % 16);
  const std::int64_t elements = bytes / static_cast<std::int64_t>(sizeof(T));
  return elements < n ? elements : n;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_rows(const T* logits, const std::int32_t* labels, float* losses, float* lse, std::int64_t rows,
                       std::int64_t vocabulary) {
  constexpr int N = kWide<T>;
  for (std::int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const std::int32_t label = labels[row];
    if (label == kIgnoredLabel) {
      if (threadIdx.x == 0) lse[row] = losses[row] = 0.0f;
      continue;
    }
    const T* from = logits + row * vocabulary;
    const std::int64_t head = misaligned(from, vocabulary);
    const std::int64_t packs = (vocabulary - head) / N;
    RunningSum own;
    if (threadIdx.x < head) own.add(load<1>(from + threadIdx.x));
#pragma unroll 4
    for (std::int64_t p = threadIdx.x; p < packs; p += kThreads) own.add(load<N>(from + head + p * N));
    const std::int64_t tail = head + packs * N + threadIdx.x;
    if (tail < vocabulary) own.add(load<1>(from + tail));
    const RunningSum total = block_total(own);
    if (threadIdx.x == 0) {
      require(label >= 0 && label < vocabulary,
              "cross_entropy: a label is outside the vocabulary; was the data made with another tokenizer?");
      lse[row] = total.largest + log(total.sum);
      losses[row] = lse[row] - load(from + label);
    }
    __syncthreads();  // what the warps left is read before the next row's
  }
}

// One block, so that there is one order.
__global__ void cross_entropy_total(const float* losses, const std::int32_t* labels, float* loss_sum,
                                    std::int32_t* count, std::int64_t rows) {
  double total[1] = {0.0};
  std::int32_t labelled[1] = {0};
  for (std::int64_t row = threadIdx.x; row < rows; row += blockDim.x) {
    total[0] += static_cast<double>(losses[row]);
    labelled[0] += labels[row] != kIgnoredLabel;
  }
  block_sums(total);
  block_sums(labelled);
  if (threadIdx.x > 0) return;
  *loss_sum = static_cast<float>(total[0]);
  *count = labelled[0];
}

constexpr int kGradThreads = 256;
constexpr std::int64_t kGradColumns = 16384;  // of a row for each block

template <typename T>
__global__ void __launch_bounds__(kGradThreads)
    cross_entropy_grad_rows(const T* logits, const std::int32_t* labels, const float* lse, const float* d_loss,
                            T* d_logits, std::int64_t vocabulary) {
  constexpr int N = kWide<T>;
  const std::int64_t row = blockIdx.x;
  const std::int64_t first = blockIdx.y * kGradColumns;
  const std::int64_t n = vocabulary - first < kGradColumns ? vocabulary - first : kGradColumns;
  const T* from = logits + row * vocabulary + first;
  T* to = d_logits + row * vocabulary + first;
  const bool ignored = labels[row] == kIgnoredLabel;
  const std::int64_t label = labels[row] - first;
  const float scale = *d_loss;
  const float shift = lse[row];
  const auto gradient = [&](float logit, std::int64_t at) {
    return ignored ? 0.0f : scale * (exp(logit - shift) - (at == label ? 1.0f : 0.0f));
  };
  // Where the two arrays don't have their 16-byte boundaries at the same place, everything is head.
  const std::int64_t head = misaligned(from, n) == misaligned(to, n) ? misaligned(from, n) : n;
  const std::int64_t packs = (n - head) / N;
  for (std::int64_t i = threadIdx.x; i < head; i += kGradThreads) store(to + i, gradient(load(from + i), i));
#pragma unroll 4
  for (std::int64_t p = threadIdx.x; p < packs; p += kGradThreads) {
    const std::int64_t at = head + p * N;
    auto values = load<N>(from + at);
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] = gradient(values[i], at + i);
    store<N>(to + at, values);
  }
  const std::int64_t tail = head + packs * N + threadIdx.x;
  if (tail < n) store(to + tail, gradient(load(from + tail), tail));
}

}  // namespace

template <typename T>
void cross_entropy(const T* logits, const std::int32_t* labels, float* loss_sum, std::int32_t* count, float* lse,
                   std::int64_t rows, std::int64_t vocabulary, void* workspace, cudaStream_t stream) {
  auto* losses = static_cast<float*>(workspace);
  launch("cross_entropy", cross_entropy_rows<T>, blocks_for(rows, 1), kThreads, 0, stream, logits, labels, losses, lse,
         rows, vocabulary);
  launch("cross_entropy", cross_entropy_total, 1, 1024, 0, stream, losses, labels, loss_sum, count, rows);
}

template <typename T>
void cross_entropy_grad(const T* logits, const std::int32_t* labels, const float* lse, const float* d_loss,
                        T* d_logits, std::int64_t rows, std::int64_t vocabulary, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(rows), static_cast<unsigned>(divide_up(vocabulary, kGradColumns)));
  launch("cross_entropy_grad", cross_entropy_grad_rows<T>, grid, kGradThreads, 0, stream, logits, labels, lse, d_loss,
         d_logits, vocabulary);
}

#define ITHACA_INSTANTIATE(T)                                                                                     \
  template void cross_entropy(const T*, const std::int32_t*, float*, std::int32_t*, float*, std::int64_t,         \
                              std::int64_t, void*, cudaStream_t);                                                 \
  template void cross_entropy_grad(const T*, const std::int32_t*, const float*, const float*, T*, std::int64_t,   \
                                   std::int64_t, cudaStream_t);
ITHACA_INSTANTIATE(float)
ITHACA_INSTANTIATE(bf16)
#undef ITHACA_INSTANTIATE

}  // namespace ithaca::cuda

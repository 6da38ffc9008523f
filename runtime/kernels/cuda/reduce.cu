// Sums in fixed blocks: the order of additions depends on the shape alone, never on the device.
#include "reduce.h"

#include "block_sums.h"
#include "elementwise.h"
#include "ithaca/error.h"
#include "launch.h"

namespace ithaca::cuda {
namespace {

constexpr int kLanes = 16;  // threads that share the rows of a column

// Each of kLanes threads sums a stretch of the blocks; the first adds the stretches in order.
template <typename O>
__global__ void add_blocks_kernel(const float* partial, O* out, std::int64_t blocks, std::int64_t columns) {
  __shared__ float stretches[kLanes][32];
  const std::int64_t c = static_cast<std::int64_t>(blockIdx.x) * 32 + threadIdx.x;
  const std::int64_t begin = threadIdx.y * blocks / kLanes, end = (threadIdx.y + 1) * blocks / kLanes;
  float sum = 0.0f;
  if (c < columns)
#pragma unroll 8
    for (std::int64_t b = begin; b < end; ++b) sum += partial[b * columns + c];
  stretches[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || c >= columns) return;
  for (int lane = 1; lane < kLanes; ++lane) sum += stretches[lane][threadIdx.x];
  store(out + c, sum);
}

constexpr int kSumThreads = 256;
constexpr std::int64_t kSumChunks = 1024;

// Chunk b of the array: every thread sums runs of at most 64 elements in f32 and adds them up in double.
template <typename T, int N>
__global__ void sum_squares_chunks(const T* x, double* partial, std::int64_t n) {
  constexpr int kRun = 64 / N;
  const std::int64_t packs = n / N;
  const std::int64_t begin = blockIdx.x * packs / gridDim.x, end = (blockIdx.x + 1) * packs / gridDim.x;
  double total[1] = {0.0};
  for (std::int64_t first = begin + threadIdx.x; first < end; first += kRun * kSumThreads) {
    float sum = 0.0f;
#pragma unroll
    for (int k = 0; k < kRun; ++k) {
      const std::int64_t at = first + k * kSumThreads;
      if (at >= end) break;
      const auto values = load<N>(x + at * N);
#pragma unroll
      for (int i = 0; i < N; ++i) sum += values[i] * values[i];
    }
    total[0] += static_cast<double>(sum);
  }
  // What is left behind whole packs.
  if (blockIdx.x + 1 == gridDim.x && packs * N + threadIdx.x < n) {
    const float last = load(x + packs * N + threadIdx.x);
    total[0] += static_cast<double>(last * last);
  }
  block_sums(total);
  if (threadIdx.x == 0) partial[blockIdx.x] = total[0];
}

__global__ void sum_squares_total(const double* partial, float* out, int chunks) {
  double total[1] = {0.0};
  for (int chunk = static_cast<int>(threadIdx.x); chunk < chunks; chunk += kSumThreads) total[0] += partial[chunk];
  block_sums(total);
  if (threadIdx.x == 0) *out = static_cast<float>(total[0]);
}

constexpr int kRowLanes = 8;

// The rows of block blockIdx.y: each of kRowLanes threads takes every eighth, the first adds them in order.
template <typename T, int N>
__global__ void sum_rows_blocks(const T* x, float* partial, std::int64_t rows, std::int64_t columns) {
  __shared__ float lanes[kRowLanes][N][32];
  const std::int64_t c = (static_cast<std::int64_t>(blockIdx.x) * 32 + threadIdx.x) * N;
  const std::int64_t end = (blockIdx.y + 1) * rows / gridDim.y;
  auto sums = repeated<N>(0.0f);
  if (c < columns)
#pragma unroll 4
    for (std::int64_t row = blockIdx.y * rows / gridDim.y + threadIdx.y; row < end; row += kRowLanes) {
      const auto values = load<N>(x + row * columns + c);
#pragma unroll
      for (int i = 0; i < N; ++i) sums[i] += values[i];
    }
#pragma unroll
  for (int i = 0; i < N; ++i) lanes[threadIdx.y][i][threadIdx.x] = sums[i];
  __syncthreads();
  if (threadIdx.y > 0 || c >= columns) return;
  for (int lane = 1; lane < kRowLanes; ++lane)
#pragma unroll
    for (int i = 0; i < N; ++i) sums[i] += lanes[lane][i][threadIdx.x];
#pragma unroll
  for (int i = 0; i < N; ++i) partial[blockIdx.y * columns + c + i] = sums[i];
}

// The dimensions kept and those summed, innermost first, with their strides in x.
struct Dimensions {
  std::int64_t sizes[8], strides[8];
  int count;
  std::int64_t elements;

  void add(std::int64_t size, std::int64_t stride) {
    sizes[count] = size;
    strides[count++] = stride;
    elements *= size;
  }
  __device__ std::int64_t offset(std::int64_t index) const {
    if (count == 1) return index * strides[0];
    std::int64_t at = 0;
    for (int d = 0; d < count; ++d) {
      at += index % sizes[d] * strides[d];
      index /= sizes[d];
    }
    return at;
  }
};

template <typename T, typename O>
__global__ void reduce_by_threads(const T* x, Dimensions kept, Dimensions summed, O* out) {
  for (std::int64_t o = global_thread(); o < kept.elements; o += global_threads()) {
    const T* base = x + kept.offset(o);
    double total = 0.0;
    for (std::int64_t t = 0; t < summed.elements; ++t) total += static_cast<double>(load(base + summed.offset(t)));
    store(out + o, static_cast<float>(total));
  }
}

template <typename T, typename O>
__global__ void reduce_by_blocks(const T* x, Dimensions kept, Dimensions summed, O* out) {
  int turn = 0;
  for (std::int64_t o = blockIdx.x; o < kept.elements; o += gridDim.x) {
    const T* base = x + kept.offset(o);
    double total[1] = {0.0};
    for (std::int64_t t = threadIdx.x; t < summed.elements; t += blockDim.x)
      total[0] += static_cast<double>(load(base + summed.offset(t)));
    block_sums(total, turn);
    turn = 1 - turn;
    if (threadIdx.x == 0) store(out + o, static_cast<float>(total[0]));
  }
}

}  // namespace

template <typename O>
void add_blocks(const float* partial, O* out, std::int64_t blocks, std::int64_t columns, cudaStream_t stream) {
  launch("add_blocks", add_blocks_kernel<O>, blocks_for(columns, 32), dim3(32, kLanes), 0, stream, partial, out, blocks,
         columns);
}

template <typename T>
void sum_squares(const T* x, float* out, std::int64_t n, void* workspace, cudaStream_t stream) {
  constexpr int N = kWide<T>;
  auto* partial = static_cast<double*>(workspace);
  const std::int64_t wanted = divide_up(n, kSumThreads * N);
  const auto chunks = static_cast<unsigned>(wanted < 1 ? 1 : wanted < kSumChunks ? wanted : kSumChunks);
  const auto kernel = aligned(x, 16) ? sum_squares_chunks<T, N> : sum_squares_chunks<T, 1>;
  launch("sum_squares", kernel, chunks, kSumThreads, 0, stream, x, partial, n);
  launch("sum_squares", sum_squares_total, 1, kSumThreads, 0, stream, partial, out, static_cast<int>(chunks));
}

template <typename T, typename O>
void sum_rows(const T* x, O* out, std::int64_t rows, std::int64_t columns, void* workspace, cudaStream_t stream) {
  auto* partial = static_cast<float*>(workspace);
  const std::int64_t blocks = row_blocks(rows);
  const bool wide = aligned(x, 16) && columns % kWide<T> == 0;
  const dim3 grid(blocks_for(columns, 32 * (wide ? kWide<T> : 1)).x, static_cast<unsigned>(blocks));
  const auto kernel = wide ? sum_rows_blocks<T, kWide<T>> : sum_rows_blocks<T, 1>;
  launch("sum_rows", kernel, grid, dim3(32, kRowLanes), 0, stream, x, partial, rows, columns);
  add_blocks(partial, out, blocks, columns, stream);
}

template <typename T, typename O>
void reduce_sum(const T* x, const std::int64_t* dims, int rank, unsigned reduced, O* out, cudaStream_t stream) {
  if (rank > 8) fail("reduce_sum: rank ", rank, " is more than 8");
  Dimensions kept{{}, {}, 0, 1}, summed{{}, {}, 0, 1};
  std::int64_t stride = 1;
  bool innermost = false;  // whether the dimension whose elements lie side by side is one of those summed
  for (int d = rank - 1; d >= 0; --d) {
    const bool sum = (reduced >> d) & 1u;
    if (stride == 1 && dims[d] > 1) innermost = sum;
    if (dims[d] != 1) (sum ? summed : kept).add(dims[d], stride);
    stride *= dims[d];
  }
  // Neighbouring threads should read neighbouring elements, and few long sums should still be many threads' work.
  const bool by_blocks = summed.elements >= 32 && (innermost || kept.elements < 4096);
  if (by_blocks)
    launch("reduce_sum", reduce_by_blocks<T, O>, blocks_for(kept.elements, 1), kSumThreads, 0, stream, x, kept, summed,
           out);
  else
    launch("reduce_sum", reduce_by_threads<T, O>, blocks_for(kept.elements, 128), 128, 0, stream, x, kept, summed, out);
}

#define ITHACA_INSTANTIATE(T)                                                     \
  template void sum_squares(const T*, float*, std::int64_t, void*, cudaStream_t); \
  template void add_blocks(const float*, T*, std::int64_t, std::int64_t, cudaStream_t);
ITHACA_INSTANTIATE(float)
ITHACA_INSTANTIATE(bf16)
#undef ITHACA_INSTANTIATE
#define ITHACA_INSTANTIATE(T, O)                                                                       \
  template void sum_rows(const T*, O*, std::int64_t, std::int64_t, void*, cudaStream_t);               \
  template void reduce_sum(const T*, const std::int64_t*, int, unsigned, O*, cudaStream_t);
ITHACA_INSTANTIATE(float, float)
ITHACA_INSTANTIATE(bf16, bf16)
ITHACA_INSTANTIATE(bf16, float)
#undef ITHACA_INSTANTIATE

}  // namespace ithaca::cuda

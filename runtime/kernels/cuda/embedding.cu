// Embedding: a block gathers rows going forward, and owns rows of the table going backward.
#include "embedding.h"

#include "block_sums.h"
#include "elementwise.h"
#include "launch.h"

namespace ithaca::cuda {
namespace {

constexpr const char* kOutside =
    "embedding: a token is outside the vocabulary; was the data made with another tokenizer?";

template <typename T, typename O, int N>
__global__ void embedding_rows(const std::int32_t* ids, const T* table, O* out, std::int64_t rows,
                               std::int64_t columns, std::int64_t vocabulary) {
  for (std::int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const std::int32_t id = ids[row];
    require(id >= 0 && id < vocabulary, kOutside);
    const T* from = table + id * columns;
    O* to = out + row * columns;
#pragma unroll 2
    for (std::int64_t c = threadIdx.x * N; c < columns; c += blockDim.x * N) store<N>(to + c, load<N>(from + c));
  }
}

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;
constexpr int kIds = 128;     // rows of the table that a block owns
constexpr int kFound = 1024;  // rows of d_out that it collects before it adds them up

// What a block has collected: rows of d_out, with the place of their id among the block's own.
struct Found {
  std::int32_t row[kFound];
  std::int32_t sorted[kFound];
  std::uint8_t id[kFound];
  std::int32_t begin[kIds + 1];  // where the rows of each id begin in `sorted`
  std::int32_t warps[kWarps];
  std::int32_t count;
};

// Sorts what was collected by id, the order of rows kept: a warp has its share of the ids.
__device__ inline void sort_found(Found& found) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const auto for_each_match = [&](int id, auto visit) {
    int seen = 0;
    for (int at = 0; at < found.count; at += 32) {
      const bool match = at + lane < found.count && found.id[at + lane] == id;
      const unsigned matches = __ballot_sync(kAllLanes, match);
      if (match) visit(seen + __popc(matches & ((1u << lane) - 1u)), at + lane);
      seen += __popc(matches);
    }
    return seen;
  };
  for (int id = warp; id < kIds; id += kWarps) {
    const int matches = for_each_match(id, [](int, int) {});
    if (lane == 0) found.begin[id + 1] = matches;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    found.begin[0] = 0;
    for (int id = 0; id < kIds; ++id) found.begin[id + 1] += found.begin[id];
  }
  __syncthreads();
  for (int id = warp; id < kIds; id += kWarps)
    if (found.begin[id + 1] > found.begin[id])
      for_each_match(id, [&](int place, int at) { found.sorted[found.begin[id] + place] = found.row[at]; });
  __syncthreads();
}

// Block (x, y) owns columns [x * kThreads * N, ...) of rows [y * kIds, ...) of the table. It reads all ids in order,
// collects the rows that are its own and adds them up, each id's in registers: the order of additions is the rows'.
template <typename T, int N>
__global__ void __launch_bounds__(kThreads)
    embedding_grad_table(const std::int32_t* ids, const T* d_out, float* d_table, std::int64_t rows,
                         std::int64_t columns, std::int64_t vocabulary, bool accumulate) {
  __shared__ Found found;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.y) * kIds;
  const std::int64_t last = first + kIds < vocabulary ? first + kIds : vocabulary;
  const std::int64_t c = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * N;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  if (!accumulate && c < columns)
    for (std::int64_t id = first; id < last; ++id) store<N>(d_table + id * columns + c, repeated<N>(0.0f));
  if (threadIdx.x == 0) found.count = 0;
  __syncthreads();

  const auto add_up = [&] {
    sort_found(found);
    if (c < columns)
      for (int own = 0; own < kIds; ++own) {
        const int begin = found.begin[own], end = found.begin[own + 1];
        if (begin == end) continue;
        float* to = d_table + (first + own) * columns + c;
        auto sum = load<N>(to);
#pragma unroll 8
        for (int k = begin; k < end; ++k) {
          const auto next = load<N>(d_out + found.sorted[k] * columns + c);
#pragma unroll
          for (int i = 0; i < N; ++i) sum[i] += next[i];
        }
        store<N>(to, sum);
      }
    __syncthreads();
    if (threadIdx.x == 0) found.count = 0;
    __syncthreads();
  };

  // Each thread looks at four neighbouring ids, since whole chunks without a match are the rule.
  constexpr int kEach = 4;
  for (std::int64_t chunk = 0; chunk < rows; chunk += kThreads * kEach) {
    const std::int64_t row = chunk + threadIdx.x * kEach;
    std::int32_t own[kEach];
    int matches = 0;
#pragma unroll
    for (int k = 0; k < kEach; ++k) {
      own[k] = row + k < rows ? ids[row + k] : -1;
      // Every id is seen by one block of rows of the table, or by none: the first also looks for strangers.
      if (blockIdx.x == 0 && blockIdx.y == 0)
        require(row + k >= rows || (own[k] >= 0 && own[k] < vocabulary), kOutside);
      matches += own[k] >= first && own[k] < last;
    }
    if (!__syncthreads_or(matches > 0)) continue;
    // Places in the order of rows: matches of the threads before, by warp and by lane.
    int before = matches;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const int other = __shfl_up_sync(kAllLanes, before, step);
      if (lane >= step) before += other;
    }
    if (lane == 31) found.warps[warp] = before;
    before -= matches;
    __syncthreads();
    int place = found.count + before;
    for (int w = 0; w < warp; ++w) place += found.warps[w];
    __syncthreads();
    if (threadIdx.x == 0)
      for (const std::int32_t own_count : found.warps) found.count += own_count;
#pragma unroll
    for (int k = 0; k < kEach; ++k)
      if (own[k] >= first && own[k] < last) {
        found.row[place] = static_cast<std::int32_t>(row + k);
        found.id[place++] = static_cast<std::uint8_t>(own[k] - first);
      }
    __syncthreads();
    if (found.count > kFound - kThreads * kEach) add_up();
  }
  if (found.count > 0) add_up();
}

}  // namespace

template <typename T, typename O>
void embedding(const std::int32_t* ids, const T* table, O* out, std::int64_t rows, std::int64_t columns,
               std::int64_t vocabulary, cudaStream_t stream) {
  const bool wide = wide_pointers(table, out) && columns % 8 == 0;
  const std::int64_t packs = wide ? columns / 8 : columns;
  const int threads = packs >= 256 ? 256 : static_cast<int>(divide_up(packs, 32)) * 32;
  const auto kernel = wide ? embedding_rows<T, O, 8> : embedding_rows<T, O, 1>;
  launch("embedding", kernel, blocks_for(rows, 1), threads, 0, stream, ids, table, out, rows, columns, vocabulary);
}

template <typename T>
void embedding_grad(const std::int32_t* ids, const T* d_out, float* d_table, std::int64_t rows, std::int64_t columns,
                    std::int64_t vocabulary, bool accumulate, cudaStream_t stream) {
  constexpr int N = 8;
  const bool wide = wide_pointers(d_out, d_table) && columns % N == 0;
  const dim3 grid(blocks_for(columns, kThreads * (wide ? N : 1)).x,
                  static_cast<unsigned>(divide_up(vocabulary, kIds)));
  const auto kernel = wide ? embedding_grad_table<T, N> : embedding_grad_table<T, 1>;
  launch("embedding_grad", kernel, grid, kThreads, 0, stream, ids, d_out, d_table, rows, columns, vocabulary,
         accumulate);
}

#define ITHACA_INSTANTIATE(T, O)                                                                              \
  template void embedding(const std::int32_t*, const T*, O*, std::int64_t, std::int64_t, std::int64_t, cudaStream_t);
ITHACA_INSTANTIATE(float, float)
ITHACA_INSTANTIATE(float, bf16)
ITHACA_INSTANTIATE(bf16, bf16)
#undef ITHACA_INSTANTIATE
template void embedding_grad(const std::int32_t*, const float*, float*, std::int64_t, std::int64_t, std::int64_t, bool,
                             cudaStream_t);
template void embedding_grad(const std::int32_t*, const bf16*, float*, std::int64_t, std::int64_t, std::int64_t, bool,
                             cudaStream_t);

}  // namespace ithaca::cuda

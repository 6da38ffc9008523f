// Attention backward: probabilities are computed again from lse. One kernel has keys and walks over the queries that
// see them, for dk and dv; another has queries and walks over keys, for dq: nothing is added to by two blocks.
#include "attention_tiles.h"
#include "block_sums.h"

namespace ithaca::cuda::plain {
namespace {

// Whose gradients the block has (`own`), and what it walks over (`other`): tiles of elements of q, k, v and d_out.
template <int DEPTH>
struct Sizes {
  static constexpr int kOwn = DEPTH > 128 ? 32 : 64;
  static constexpr int kOther = DEPTH > 64 ? 32 : 64;
  static constexpr int kSecondOwnAt = tile_floats(kOwn, DEPTH);
  static constexpr int kOtherAt = 2 * kSecondOwnAt;
  static constexpr int kSecondOtherAt = kOtherAt + tile_floats(kOther, DEPTH);
  static constexpr int kScoresAt = kOtherAt + 2 * tile_floats(kOther, DEPTH);
  // A row of scores for each query, whichever way round: more rows have more gaps.
  static constexpr int kScores = kOwn > kOther ? tile_floats(kOwn, kOther) : tile_floats(kOther, kOwn);
  static constexpr std::size_t kBytes = sizeof(float) * (kScoresAt + kScores);
};

// delta = sum(d_out * out) of every query and head, a warp each.
template <typename T>
__global__ void attention_delta(const T* out, const T* d_out, float* delta, std::int64_t rows, int head_dim) {
  const std::int64_t row = global_thread() / 32;
  if (row >= rows) return;
  float sum = 0.0f;
  for (int d = static_cast<int>(threadIdx.x) % 32; d < head_dim; d += 32)
    sum += load(out + row * head_dim + d) * load(d_out + row * head_dim + d);
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) delta[row] = sum;
}

// What both kernels read.
template <typename T>
struct Inputs {
  const T *q, *k, *v, *d_out;
  const std::int32_t* segments;
  const float *lse, *delta;
  bool wide;
};

// From products q k^T and d_out v^T of queries from i and keys from j: probabilities, and gradients of the products.
template <int R, int C>
__device__ inline void score_grads(const Mask& mask, std::int64_t i, std::int64_t j, bool open, const float* lse,
                                   const float* delta, std::int64_t head, float (&p)[R][C], float (&ds)[R][C]) {
  const AttentionShape& shape = mask.shape;
  std::int32_t key_segments[C];
#pragma unroll
  for (int c = 0; c < C; ++c) key_segments[c] = mask.key_segment(j + thread_x() + kSide * c);
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const std::int64_t query = i + thread_y() * R + r;
    const bool exists = query < shape.sequence_q;
    const float own_lse = exists ? lse[query * shape.heads + head] : 0.0f;
    const float own_delta = exists ? delta[query * shape.heads + head] : 0.0f;
    const std::int32_t own_segment = mask.query_segment(query);
#pragma unroll
    for (int c = 0; c < C; ++c) {
      const float score = score_of(shape, p[r][c]);
      const bool sees = open || mask.sees(query, j + thread_x() + kSide * c, own_segment, key_segments[c]);
      p[r][c] = sees ? exp(score - own_lse) : 0.0f;
      ds[r][c] = sees ? p[r][c] * (ds[r][c] - own_delta) * slope_at(shape, score) : 0.0f;
    }
  }
}

template <typename T, int DEPTH>
__global__ void __launch_bounds__(kThreads, DEPTH > 128 ? 1 : 2)
    attention_grad_keys(AttentionShape shape, Inputs<T> in, T* dk, T* dv) {
  using S = Sizes<DEPTH>;
  constexpr int kKeys = S::kOwn, kQueries = S::kOther, R = kQueries / kSide, C = kKeys / kSide;
  auto* keys = dynamic_shared<float>();
  float* values = keys + S::kSecondOwnAt;
  float* queries = keys + S::kOtherAt;
  float* d_outs = keys + S::kSecondOtherAt;
  float* scores = keys + S::kScoresAt;
  const int head_dim = static_cast<int>(shape.head_dim);
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kKeys;
  const std::int64_t kv_head = blockIdx.y, b = blockIdx.z, group = shape.heads / shape.kv_heads;
  const std::int64_t q_stride = shape.heads * head_dim, kv_stride = shape.kv_heads * head_dim;
  const std::int64_t kv_base = (b * shape.sequence_kv + first) * kv_stride + kv_head * head_dim;
  const std::int64_t row_base = b * shape.sequence_q;
  const Mask mask{shape, in.segments == nullptr ? nullptr : in.segments + b * shape.sequence_kv};

  load_tile<kKeys, DEPTH>(keys, in.k + kv_base, kv_stride, shape.sequence_kv - first, head_dim, in.wide);
  load_tile<kKeys, DEPTH>(values, in.v + kv_base, kv_stride, shape.sequence_kv - first, head_dim, in.wide);
  float dk_sums[C][DEPTH / kSide] = {}, dv_sums[C][DEPTH / kSide] = {};
  const Range range = mask.queries_of(first, kKeys);
  for (std::int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    for (std::int64_t i = range.begin; i < range.end; i += kQueries) {
      const std::int64_t base = (row_base + i) * q_stride + head * head_dim;
      __syncthreads();  // what was there before has been used
      load_tile<kQueries, DEPTH>(queries, in.q + base, q_stride, shape.sequence_q - i, head_dim, in.wide);
      load_tile<kQueries, DEPTH>(d_outs, in.d_out + base, q_stride, shape.sequence_q - i, head_dim, in.wide);
      __syncthreads();
      float p[R][C], ds[R][C];
      row_products<R, C, DEPTH>(queries, keys, p);
      row_products<R, C, DEPTH>(d_outs, values, ds);
      score_grads(mask, i, first, mask.is_open(i, kQueries, first, kKeys), in.lse + row_base * shape.heads,
                  in.delta + row_base * shape.heads, head, p, ds);
      store_scores(scores, p);
      __syncthreads();
      add_transposed_products<C, kQueries, DEPTH>(scores, d_outs, dv_sums);
      __syncthreads();
      store_scores(scores, ds);
      __syncthreads();
      add_transposed_products<C, kQueries, DEPTH>(scores, queries, dk_sums);
    }
  }
#pragma unroll
  for (int c = 0; c < C; ++c) {
    const std::int64_t row = thread_y() * C + c;
    if (first + row >= shape.sequence_kv) continue;
    store_row<DEPTH>(dk + kv_base + row * kv_stride, dk_sums[c], 1.0f, head_dim);
    store_row<DEPTH>(dv + kv_base + row * kv_stride, dv_sums[c], 1.0f, head_dim);
  }
}

template <typename T, int DEPTH>
__global__ void __launch_bounds__(kThreads, DEPTH > 128 ? 1 : 2) attention_grad_queries(AttentionShape shape, Inputs<T> in, T* dq) {
  using S = Sizes<DEPTH>;
  constexpr int kQueries = S::kOwn, kKeys = S::kOther, R = kQueries / kSide, C = kKeys / kSide;
  auto* queries = dynamic_shared<float>();
  float* d_outs = queries + S::kSecondOwnAt;
  float* keys = queries + S::kOtherAt;
  float* values = queries + S::kSecondOtherAt;
  float* scores = queries + S::kScoresAt;
  const int head_dim = static_cast<int>(shape.head_dim);
  const std::int64_t first = static_cast<std::int64_t>(gridDim.x - 1 - blockIdx.x) * kQueries;
  const std::int64_t head = blockIdx.y, b = blockIdx.z, kv_head = head / (shape.heads / shape.kv_heads);
  const std::int64_t q_stride = shape.heads * head_dim, kv_stride = shape.kv_heads * head_dim;
  const std::int64_t row_base = b * shape.sequence_q;
  const std::int64_t q_base = (row_base + first) * q_stride + head * head_dim;
  const Mask mask{shape, in.segments == nullptr ? nullptr : in.segments + b * shape.sequence_kv};

  load_tile<kQueries, DEPTH>(queries, in.q + q_base, q_stride, shape.sequence_q - first, head_dim, in.wide);
  load_tile<kQueries, DEPTH>(d_outs, in.d_out + q_base, q_stride, shape.sequence_q - first, head_dim, in.wide);
  float dq_sums[R][DEPTH / kSide] = {};
  const Range range = mask.keys_of(first, kQueries);
  for (std::int64_t j = range.begin; j < range.end; j += kKeys) {
    const std::int64_t base = (b * shape.sequence_kv + j) * kv_stride + kv_head * head_dim;
    __syncthreads();  // what was there before has been used
    load_tile<kKeys, DEPTH>(keys, in.k + base, kv_stride, shape.sequence_kv - j, head_dim, in.wide);
    load_tile<kKeys, DEPTH>(values, in.v + base, kv_stride, shape.sequence_kv - j, head_dim, in.wide);
    __syncthreads();
    float p[R][C], ds[R][C];
    row_products<R, C, DEPTH>(queries, keys, p);
    row_products<R, C, DEPTH>(d_outs, values, ds);
    score_grads(mask, first, j, mask.is_open(first, kQueries, j, kKeys), in.lse + row_base * shape.heads,
                in.delta + row_base * shape.heads, head, p, ds);
    store_scores(scores, ds);
    __syncthreads();
    add_products<R, kKeys, DEPTH>(scores, keys, dq_sums);
  }
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const std::int64_t row = thread_y() * R + r;
    if (first + row < shape.sequence_q)
      store_row<DEPTH>(dq + q_base + row * q_stride, dq_sums[r], 1.0f, head_dim);
  }
}

}  // namespace

template <typename T>
void attention_grad(const AttentionShape& shape, const T* q, const T* k, const T* v, const std::int32_t* segments,
                    const T* out, const float* lse, const T* d_out, T* dq, T* dk, T* dv, void* workspace,
                    cudaStream_t stream) {
  check_shape(shape);
  auto* delta = static_cast<float*>(workspace);
  const std::int64_t rows = shape.batch * shape.sequence_q * shape.heads;
  launch("attention_grad", attention_delta<T>, blocks_for(rows * 32, kThreads), kThreads, 0, stream, out, d_out, delta,
         rows, static_cast<int>(shape.head_dim));
  const Inputs<T> in{q, k, v, d_out, segments, lse, delta, wide_heads<T>(shape, q, k, v, d_out)};
  const auto start = [&]<int DEPTH>() {
    using S = Sizes<DEPTH>;
    const auto blocks = [](std::int64_t sequence) { return static_cast<unsigned>(divide_up(sequence, S::kOwn)); };
    const auto heads = static_cast<unsigned>(shape.heads), kv_heads = static_cast<unsigned>(shape.kv_heads);
    const auto batch = static_cast<unsigned>(shape.batch);
    launch("attention_grad", attention_grad_keys<T, DEPTH>, dim3(blocks(shape.sequence_kv), kv_heads, batch), kThreads,
           S::kBytes, stream, shape, in, dk, dv);
    launch("attention_grad", attention_grad_queries<T, DEPTH>, dim3(blocks(shape.sequence_q), heads, batch), kThreads,
           S::kBytes, stream, shape, in, dq);
  };
  if (shape.head_dim <= 64) return start.template operator()<64>();
  if (shape.head_dim <= 128) return start.template operator()<128>();
  start.template operator()<256>();
}

#define ITHACA_INSTANTIATE(T)                                                                                          \
  template void attention_grad(const AttentionShape&, const T*, const T*, const T*, const std::int32_t*, const T*,     \
                               const float*, const T*, T*, T*, T*, void*, cudaStream_t);
ITHACA_INSTANTIATE(float)
ITHACA_INSTANTIATE(bf16)
#undef ITHACA_INSTANTIATE

}  // namespace ithaca::cuda::plain

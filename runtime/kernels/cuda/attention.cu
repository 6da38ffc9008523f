// Attention forward: a block has 64 queries of one head and walks over the keys they see, with a running maximum and
// sum for every query.
#include "attention.h"

#include "attention_tiles.h"
#include "ithaca/error.h"

namespace ithaca::cuda::plain {
namespace {

template <int DEPTH>
struct Sizes {
  static constexpr int kQueries = 64;
  static constexpr int kKeys = DEPTH > 128 ? 32 : 64;
  static constexpr int kRows = kQueries / kSide;
  static constexpr int kColumns = kKeys / kSide;
  // Queries, then keys and values in turn, then probabilities.
  static constexpr int kKeysAt = tile_floats(kQueries, DEPTH);
  static constexpr int kScoresAt = kKeysAt + tile_floats(kKeys, DEPTH);
  static constexpr std::size_t kBytes = sizeof(float) * (kScoresAt + tile_floats(kQueries, kKeys));
};

template <typename T, int DEPTH>
__global__ void __launch_bounds__(kThreads, DEPTH > 128 ? 1 : 2)
    attention_kernel(AttentionShape shape, const T* q, const T* k, const T* v, const std::int32_t* segments, T* out,
                     float* lse, bool wide) {
  using S = Sizes<DEPTH>;
  constexpr int R = S::kRows, C = S::kColumns;
  auto* queries = dynamic_shared<float>();
  float* keys = queries + S::kKeysAt;
  float* scores = queries + S::kScoresAt;
  const int head_dim = static_cast<int>(shape.head_dim);
  // The last queries see the most keys where the mask is causal: they go first.
  const std::int64_t first = static_cast<std::int64_t>(gridDim.x - 1 - blockIdx.x) * S::kQueries;
  const std::int64_t head = blockIdx.y, b = blockIdx.z, kv_head = head / (shape.heads / shape.kv_heads);
  const std::int64_t q_stride = shape.heads * head_dim, kv_stride = shape.kv_heads * head_dim;
  const std::int64_t kv_base = b * shape.sequence_kv * kv_stride + kv_head * head_dim;
  const Mask mask{shape, segments == nullptr ? nullptr : segments + b * shape.sequence_kv};

  load_tile<S::kQueries, DEPTH>(queries, q + (b * shape.sequence_q + first) * q_stride + head * head_dim, q_stride,
                                shape.sequence_q - first, head_dim, wide);
  float sums[R][DEPTH / kSide] = {};
  float largest[R], total[R];
  std::int32_t own_segment[R];
#pragma unroll
  for (int r = 0; r < R; ++r) {
    largest[r] = -INFINITY;
    total[r] = 0.0f;
    own_segment[r] = mask.query_segment(first + thread_y() * R + r);
  }

  const Range range = mask.keys_of(first, S::kQueries);
  for (std::int64_t j = range.begin; j < range.end; j += S::kKeys) {
    const std::int64_t left = range.end - j;
    __syncthreads();  // the values before have been used
    load_tile<S::kKeys, DEPTH>(keys, k + kv_base + j * kv_stride, kv_stride, left, head_dim, wide);
    __syncthreads();
    float s[R][C];
    row_products<R, C, DEPTH>(queries, keys, s);
    const bool open = left >= S::kKeys && mask.is_open(first, S::kQueries, j, S::kKeys);
#pragma unroll
    for (int c = 0; c < C; ++c) {
      const std::int64_t key = j + thread_x() + kSide * c;
      const std::int32_t key_segment = mask.key_segment(key);
#pragma unroll
      for (int r = 0; r < R; ++r) {
        s[r][c] = score_of(shape, s[r][c]);
        if (!open && (key >= range.end || !mask.sees(first + thread_y() * R + r, key, own_segment[r], key_segment)))
          s[r][c] = -INFINITY;
      }
    }
#pragma unroll
    for (int r = 0; r < R; ++r) {
      float most = s[r][0];
#pragma unroll
      for (int c = 1; c < C; ++c) most = s[r][c] > most ? s[r][c] : most;
      most = across_row(most, [](float a, float other) { return other > a ? other : a; });
      most = most > largest[r] ? most : largest[r];
      const float zero = most == -INFINITY ? 0.0f : most;
      const float shrink = exp(largest[r] - zero);
      largest[r] = most;
      float sum = 0.0f;
#pragma unroll
      for (int c = 0; c < C; ++c) {
        s[r][c] = exp(s[r][c] - zero);
        sum += s[r][c];
      }
      total[r] = total[r] * shrink + sum;
#pragma unroll
      for (float& value : sums[r]) value *= shrink;
    }
    store_scores(scores, s);
    __syncthreads();  // the keys have been used
    load_tile<S::kKeys, DEPTH>(keys, v + kv_base + j * kv_stride, kv_stride, left, head_dim, wide);
    __syncthreads();
    add_products<R, S::kKeys, DEPTH>(scores, keys, sums);
  }

#pragma unroll
  for (int r = 0; r < R; ++r) {
    total[r] = across_row(total[r], [](float a, float other) { return a + other; });
    const std::int64_t i = first + thread_y() * R + r;
    if (i >= shape.sequence_q) continue;
    const std::int64_t row = (b * shape.sequence_q + i) * shape.heads + head;
    const bool blind = total[r] == 0.0f;
    store_row<DEPTH>(out + row * head_dim, sums[r], blind ? 0.0f : 1.0f / total[r], head_dim);
    if (thread_x() == 0) lse[row] = blind ? -INFINITY : largest[r] + log(total[r]);
  }
}

}  // namespace

void check_shape(const AttentionShape& shape) {
  if (shape.head_dim < 1 || shape.head_dim > 256)
    fail("attention: heads of ", shape.head_dim, " elements; these kernels take up to 256");
  if (shape.heads % shape.kv_heads != 0)
    fail("attention: ", shape.heads, " query heads can't share ", shape.kv_heads, " key heads evenly");
}

template <typename T>
void attention(const AttentionShape& shape, const T* q, const T* k, const T* v, const std::int32_t* segments, T* out,
               float* lse, void*, cudaStream_t stream) {
  check_shape(shape);
  const bool wide = wide_heads<T>(shape, q, k, v);
  const auto start = [&]<int DEPTH>() {
    using S = Sizes<DEPTH>;
    const dim3 grid(static_cast<unsigned>(divide_up(shape.sequence_q, S::kQueries)),
                    static_cast<unsigned>(shape.heads), static_cast<unsigned>(shape.batch));
    launch("attention", attention_kernel<T, DEPTH>, grid, kThreads, S::kBytes, stream, shape, q, k, v, segments, out,
           lse, wide);
  };
  if (shape.head_dim <= 64) return start.template operator()<64>();
  if (shape.head_dim <= 128) return start.template operator()<128>();
  start.template operator()<256>();
}

#define ITHACA_INSTANTIATE(T)                                                                                     \
  template void attention(const AttentionShape&, const T*, const T*, const T*, const std::int32_t*, T*, float*,   \
                          void*, cudaStream_t);
ITHACA_INSTANTIATE(float)
ITHACA_INSTANTIATE(bf16)
#undef ITHACA_INSTANTIATE

}  // namespace ithaca::cuda::plain

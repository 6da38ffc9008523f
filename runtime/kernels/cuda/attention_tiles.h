// What attention's kernels share: the mask, tiles in shared memory, and products of tiles in registers.
//
// A block is 16 x 16 threads. Of a tile with 16 R rows and 16 C columns, thread (y, x) has rows y R + r and columns
// x + 16 c of scores; of a tile with DEPTH columns, columns 4 x + 64 c + e. Tiles are f32 whatever T is; their rows
// are four floats longer than they need, so that threads x read different banks.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

#include "attention.h"
#include "elementwise.h"
#include "launch.h"

namespace ithaca::cuda::plain {

inline constexpr int kSide = 16;
inline constexpr int kThreads = kSide * kSide;
inline constexpr int kGap = 4;

// Floats of a row of a tile, and of all of it.
template <int COLUMNS>
inline constexpr int kPitch = COLUMNS + kGap;
constexpr int tile_floats(int rows, int columns) { return rows * (columns + kGap); }

struct Range {
  std::int64_t begin, end;
};

__device__ inline std::int64_t larger(std::int64_t a, std::int64_t b) { return a > b ? a : b; }
__device__ inline std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

// The first place among n ascending numbers that holds `value` or more.
__device__ inline std::int64_t lower_bound(const std::int32_t* numbers, std::int64_t n, std::int32_t value) {
  std::int64_t begin = 0;
  while (n > 0) {
    const std::int64_t half = n / 2;
    if (numbers[begin + half] < value) {
      begin += half + 1;
      n -= half + 1;
    } else {
      n = half;
    }
  }
  return begin;
}

// Which keys a query sees, for one row of the batch; `segments` are those of the keys, or null.
struct Mask {
  const AttentionShape& shape;
  const std::int32_t* segments;

  __device__ std::int32_t key_segment(std::int64_t j) const {
    return segments != nullptr && j < shape.sequence_kv ? segments[j] : 0;
  }
  __device__ std::int32_t query_segment(std::int64_t i) const { return key_segment(i + shape.query_offset); }
  __device__ bool sees(std::int64_t i, std::int64_t j, std::int32_t query_segment, std::int32_t key_segment) const {
    const std::int64_t p = i + shape.query_offset;
    return i < shape.sequence_q && j < shape.sequence_kv && query_segment == key_segment &&
           (!shape.causal || j <= p) && (shape.window == 0 || p - j < shape.window);
  }
  // Whether each of `queries` from i sees each of `keys` from j.
  __device__ bool is_open(std::int64_t i, int queries, std::int64_t j, int keys) const {
    const std::int64_t last_i = i + queries - 1, last_j = j + keys - 1;
    if (last_i >= shape.sequence_q || last_j >= shape.sequence_kv) return false;
    if (shape.causal && last_j > i + shape.query_offset) return false;
    if (shape.window > 0 && last_i + shape.query_offset - j >= shape.window) return false;
    const std::int64_t p = i + shape.query_offset, last_p = last_i + shape.query_offset;
    return segments == nullptr || (segments[p] == segments[last_p] && segments[j] == segments[last_j] &&
                                   segments[p] == segments[j]);
  }
  // All keys that any of `queries` from i might see.
  __device__ Range keys_of(std::int64_t i, int queries) const {
    const std::int64_t last = smaller(i + queries, shape.sequence_q) - 1;
    Range keys{0, shape.sequence_kv};
    if (shape.causal) keys.end = smaller(keys.end, last + shape.query_offset + 1);
    if (shape.window > 0) keys.begin = larger(0, i + shape.query_offset - shape.window + 1);
    return of_segments(keys, i + shape.query_offset, last + shape.query_offset, 0);
  }
  // All queries that might see any of `keys` from j.
  __device__ Range queries_of(std::int64_t j, int keys) const {
    const std::int64_t last = smaller(j + keys, shape.sequence_kv) - 1;
    Range queries{0, shape.sequence_q};
    if (shape.causal) queries.begin = larger(0, j - shape.query_offset);
    if (shape.window > 0) queries.end = smaller(queries.end, last + shape.window - shape.query_offset);
    return of_segments(queries, j, last, shape.query_offset);
  }

 private:
  // Segments rise along the keys, so that those of the keys [first, last] lie together. `range` counts from the key
  // `offset` on.
  __device__ Range of_segments(Range range, std::int64_t first, std::int64_t last, std::int64_t offset) const {
    if (segments == nullptr) return range;
    const std::int64_t n = shape.sequence_kv;
    range.begin = larger(range.begin, lower_bound(segments, n, segments[first]) - offset);
    range.end = smaller(range.end, lower_bound(segments, n, segments[last] + 1) - offset);
    return range;
  }
};

// Copies up to ROWS rows of `head_dim` elements, `stride` apart, to a tile; the rest of it becomes 0.
template <int ROWS, int DEPTH, typename T>
__device__ inline void load_tile(float* tile, const T* from, std::int64_t stride, std::int64_t rows, int head_dim,
                                 bool wide) {
  constexpr int N = kWide<T>;
#pragma unroll 2
  for (int at = static_cast<int>(threadIdx.x) * N; at < ROWS * DEPTH; at += kThreads * N) {
    const int row = at / DEPTH, column = at % DEPTH;
    auto values = repeated<N>(0.0f);
    if (row < rows) {
      const T* place = from + row * stride + column;
      if (wide && column < head_dim)
        values = load<N>(place);
      else
#pragma unroll
        for (int k = 0; k < N; ++k)
          if (column + k < head_dim) values[k] = load(place + k);
    }
    store<N>(tile + row * kPitch<DEPTH> + column, values);
  }
}

__device__ inline int thread_x() { return static_cast<int>(threadIdx.x) % kSide; }
__device__ inline int thread_y() { return static_cast<int>(threadIdx.x) / kSide; }

// s = a b^T: this thread's part of the products of the rows of two tiles.
template <int R, int C, int DEPTH>
__device__ inline void row_products(const float* a, const float* b, float (&s)[R][C]) {
#pragma unroll
  for (int r = 0; r < R; ++r)
#pragma unroll
    for (int c = 0; c < C; ++c) s[r][c] = 0.0f;
#pragma unroll 2
  for (int d = 0; d < DEPTH; d += 4) {
    Pack<float, 4> left[R], right[C];
#pragma unroll
    for (int r = 0; r < R; ++r) left[r] = load<4>(a + (thread_y() * R + r) * kPitch<DEPTH> + d);
#pragma unroll
    for (int c = 0; c < C; ++c) right[c] = load<4>(b + (thread_x() + kSide * c) * kPitch<DEPTH> + d);
#pragma unroll
    for (int k = 0; k < 4; ++k)
#pragma unroll
      for (int r = 0; r < R; ++r)
#pragma unroll
        for (int c = 0; c < C; ++c) s[r][c] += left[r][k] * right[c][k];
  }
}

// Puts this thread's scores into a tile.
template <int R, int C>
__device__ inline void store_scores(float* tile, const float (&s)[R][C]) {
#pragma unroll
  for (int r = 0; r < R; ++r)
#pragma unroll
    for (int c = 0; c < C; ++c) tile[(thread_y() * R + r) * kPitch<kSide * C> + thread_x() + kSide * c] = s[r][c];
}

// sum += scale * row, this thread's columns of one row of a tile.
template <int DEPTH>
__device__ inline void add_row(float (&sum)[DEPTH / kSide], float scale, const float* row) {
#pragma unroll
  for (int c = 0; c < DEPTH / 64; ++c) {
    const auto values = load<4>(row + 4 * thread_x() + 64 * c);
#pragma unroll
    for (int k = 0; k < 4; ++k) sum[4 * c + k] += scale * values[k];
  }
}

// sums += p x: p a tile of scores with 16 R rows, x a tile with as many rows as p has columns.
template <int R, int COLUMNS, int DEPTH>
__device__ inline void add_products(const float* p, const float* x, float (&sums)[R][DEPTH / kSide]) {
#pragma unroll 1
  for (int j = 0; j < COLUMNS; j += 4) {
    Pack<float, 4> weights[R];
#pragma unroll
    for (int r = 0; r < R; ++r) weights[r] = load<4>(p + (thread_y() * R + r) * kPitch<COLUMNS> + j);
#pragma unroll
    for (int k = 0; k < 4; ++k)
#pragma unroll
      for (int r = 0; r < R; ++r) add_row<DEPTH>(sums[r], weights[r][k], x + (j + k) * kPitch<DEPTH>);
  }
}

// sums += p^T x: p a tile of scores with 16 R columns and ROWS rows, x a tile of ROWS rows.
template <int R, int ROWS, int DEPTH>
__device__ inline void add_transposed_products(const float* p, const float* x, float (&sums)[R][DEPTH / kSide]) {
#pragma unroll 2
  for (int i = 0; i < ROWS; ++i) {
    float weights[R];
#pragma unroll
    for (int r = 0; r < R; ++r) weights[r] = p[i * kPitch<kSide * R> + thread_y() * R + r];
#pragma unroll
    for (int r = 0; r < R; ++r) add_row<DEPTH>(sums[r], weights[r], x + i * kPitch<DEPTH>);
  }
}

// Stores this thread's columns of a row of `head_dim` elements.
template <int DEPTH, typename T>
__device__ inline void store_row(T* to, const float (&sum)[DEPTH / kSide], float scale, int head_dim) {
#pragma unroll
  for (int c = 0; c < DEPTH / 64; ++c)
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int column = 4 * thread_x() + 64 * c + k;
      if (column < head_dim) store(to + column, scale * sum[4 * c + k]);
    }
}

// A product of q and k as a score, and the derivative of that.
__device__ inline float score_of(const AttentionShape& shape, float product) {
  const float score = product * shape.scale;
  return shape.softcap > 0.0f ? shape.softcap * tanh(score / shape.softcap) : score;
}
__device__ inline float slope_at(const AttentionShape& shape, float score) {
  const float capped = shape.softcap > 0.0f ? score / shape.softcap : 0.0f;
  return shape.scale * (1.0f - capped * capped);
}

// Sum or maximum over the 16 threads that share rows.
template <typename Combine>
__device__ inline float across_row(float value, Combine combine) {
#pragma unroll
  for (int step = kSide / 2; step > 0; step /= 2) value = combine(value, __shfl_xor_sync(0xffffffffu, value, step));
  return value;
}

// Throws Error where these kernels can't run the shape.
void check_shape(const AttentionShape& shape);

// Whether rows of heads can be read 16 bytes at a time.
template <typename T, typename... Pointers>
bool wide_heads(const AttentionShape& shape, const Pointers*... pointers) {
  return shape.head_dim % kWide<T> == 0 && wide_pointers(pointers...);
}

}  // namespace ithaca::cuda::plain

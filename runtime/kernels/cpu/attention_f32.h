// Attention's engine for f32: register-blocked products of small tiles, with queries along the vector lanes.
//
// Scores are kept transposed, S^T[key][query]: the softmax then runs down the lanes without a shuffle, and keys
// and values are read one scalar at a time (a broadcast), so that neither has to be transposed.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "registers.h"

namespace ithaca::cpu {

// multiply_registers for any number of columns (a multiple of kLanes) and of rows (of 24, or of 8 if columns is a multiple
// of 3 kLanes).
template <bool TransposeA>
void multiply_tile(const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float* c, std::int64_t ldc,
                   std::int64_t rows, std::int64_t columns, std::int64_t depth, bool accumulate) {
  const std::int64_t step = TransposeA ? 1 : lda;
  if (columns % (3 * kLanes) == 0) {
    for (std::int64_t n = 0; n < columns; n += 3 * kLanes)
      for (std::int64_t m = 0; m < rows; m += kRowsOf3)
        multiply_registers<kRowsOf3, 3, TransposeA>(a + m * step, lda, b + n, ldb, c + m * ldc + n, ldc, depth,
                                                    accumulate);
    return;
  }
  std::int64_t n = 0;
  for (; n + 4 * kLanes <= columns; n += 4 * kLanes)
    for (std::int64_t m = 0; m < rows; m += kRowsOf4)
      multiply_registers<kRowsOf4, 4, TransposeA>(a + m * step, lda, b + n, ldb, c + m * ldc + n, ldc, depth,
                                                  accumulate);
  const auto rest = [&]<int Vectors>() {
    for (std::int64_t m = 0; m < rows; m += kRowsOf4)
      multiply_registers<kRowsOf4, Vectors, TransposeA>(a + m * step, lda, b + n, ldb, c + m * ldc + n, ldc, depth,
                                                        accumulate);
  };
  switch ((columns - n) / kLanes) {
    case 1: rest.template operator()<1>(); break;
    case 2: rest.template operator()<2>(); break;
    case 3: rest.template operator()<3>(); break;
  }
}

// The engine: how tiles of T are laid out and multiplied. attention_bf16.h has the other one, with the same members.
template <typename T>
struct F32Engine {
  using Element = float;
  static constexpr int kPanel = 3 * kLanes;  // queries side by side
  static constexpr std::int64_t kKeys = 96;  // keys of a tile, at most
  static constexpr std::int64_t kKeyUnit = 24;
  static constexpr int kExpDegree = 5;
  static constexpr bool kInPlace = true;  // probabilities replace the scores

  static std::int64_t padded(std::int64_t head_dim) { return round_up(head_dim, 16); }

  // Rows of T, `stride` apart, to f32 rows `depth` apart; what lies beyond count and head_dim is zero.
  static void pack_rows(const T* from, std::int64_t stride, std::int64_t count, std::int64_t head_dim, float* to,
                        std::int64_t rows, std::int64_t depth) {
    for (std::int64_t r = 0; r < count; ++r) {
      const T* __restrict source = from + r * stride;
      float* __restrict target = to + r * depth;
      for (std::int64_t d = 0; d < head_dim; ++d) target[d] = source[d];
      std::fill(to + r * depth + head_dim, to + (r + 1) * depth, 0.0f);
    }
    std::fill(to + count * depth, to + rows * depth, 0.0f);
  }

  // The same rows as columns: to[d][row], `rows` apart.
  static void pack_columns(const T* from, std::int64_t stride, std::int64_t count, std::int64_t head_dim, float* to,
                           std::int64_t rows, std::int64_t depth) {
    for (std::int64_t r = 0; r < rows; r += kLanes)
      for (std::int64_t d = 0; d < depth; d += kLanes) {
        Vector block[kLanes];
        for (int i = 0; i < kLanes; ++i) {
          block[i] = Vector{};
          if (r + i >= count) continue;
          const T* source = from + (r + i) * stride + d;
          if (d + kLanes <= head_dim)
            for (int j = 0; j < kLanes; ++j) block[i][j] = source[j];
          else
            for (std::int64_t j = 0; j < head_dim - d; ++j) block[i][j] = source[j];
        }
        transpose(block);
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) store_vector(to + (d + i) * rows + r, block[i]);
      }
  }

  static void pack_keys(const T* k, std::int64_t stride, std::int64_t count, std::int64_t head_dim, float* to,
                        std::int64_t rows, std::int64_t depth) {
    pack_rows(k, stride, count, head_dim, to, rows, depth);
  }
  static void pack_values(const T* v, std::int64_t stride, std::int64_t count, std::int64_t head_dim, float* to,
                          std::int64_t rows, std::int64_t depth) {
    pack_rows(v, stride, count, head_dim, to, rows, depth);
  }
  static void pack_queries(const T* q, std::int64_t stride, std::int64_t count, std::int64_t head_dim, float* to,
                           std::int64_t depth) {
    pack_columns(q, stride, count, head_dim, to, kPanel, depth);
  }

  // scores[key][query] of `rows` keys and one panel.
  static void scores(const float* keys, const float* queries, float* scores, std::int64_t rows, std::int64_t depth) {
    multiply_tile<false>(keys, depth, queries, kPanel, scores, kPanel, rows, kPanel, depth, false);
  }

  static ITHACA_INLINE void store_pair(float* probabilities, std::int64_t key, int lane, Vector even, Vector odd) {
    store_vector(probabilities + key * kPanel + lane, even);
    store_vector(probabilities + (key + 1) * kPanel + lane, odd);
  }

  // out[d][query] += sum over keys of values[key][d] * probabilities[key][query].
  static void accumulate(const float* values, const float* probabilities, float* out, std::int64_t rows,
                         std::int64_t depth) {
    multiply_tile<true>(values, depth, probabilities, kPanel, out, kPanel, depth, kPanel, rows, true);
  }

  // What the backward pass needs. Its tiles are kGradKeys keys by kGradQueries queries, in scratch of the layouts
  // queries and d_out: as pack_grad_columns and pack_grad_rows leave them; scores[key][query].
  static constexpr std::int64_t kGradQueries = 96;
  static constexpr std::int64_t kGradKeys = 96;

  static void pack_grad_columns(const T* from, std::int64_t stride, std::int64_t count, std::int64_t head_dim,
                                float* to, std::int64_t depth) {
    pack_columns(from, stride, count, head_dim, to, kGradQueries, depth);
  }
  static void pack_grad_rows(const T* from, std::int64_t stride, std::int64_t count, std::int64_t head_dim, float* to,
                             std::int64_t depth) {
    pack_rows(from, stride, count, head_dim, to, kGradQueries, depth);
  }
  static void pack_transposed_keys(const T*, std::int64_t, std::int64_t, std::int64_t, float*, std::int64_t,
                                   std::int64_t) {}

  // scores[key][query] = rows[key] . columns[query], over `rows` keys.
  static void grad_scores(const float* keys, const float* columns, float* scores, std::int64_t rows,
                          std::int64_t depth) {
    multiply_tile<false>(keys, depth, columns, kGradQueries, scores, kGradQueries, rows, kGradQueries, depth, false);
  }

  // Four vectors of a tile of P or dS: keys key, key + 1 by lanes, lanes + kLanes. `left` is what grad_keys reads,
  // `right` what grad_queries reads (null if not wanted).
  static ITHACA_INLINE void store_square(float* left, float*, std::int64_t key, int lane, const Vector (&x)[2][2]) {
    for (int j = 0; j < 2; ++j)
      for (int n = 0; n < 2; ++n) store_vector(left + (key + j) * kGradQueries + lane + n * kLanes, x[j][n]);
  }

  // sum[key][d] += sum over queries of left[key][query] * rows[query][d].
  static void grad_keys(const float* left, const float* query_rows, float* sum, std::int64_t rows,
                        std::int64_t depth) {
    multiply_tile<false>(left, kGradQueries, query_rows, depth, sum, depth, rows, depth, kGradQueries, true);
  }

  // sum[d][query] += sum over keys of keys[key][d] * dS[key][query].
  static void grad_queries(const float* keys, const float*, const float* left, const float*, float* sum,
                           std::int64_t rows, std::int64_t depth) {
    multiply_tile<true>(keys, depth, left, kGradQueries, sum, kGradQueries, depth, kGradQueries, rows, true);
  }

  // Called by every thread of a parallel region around its work.
  static void begin_thread() {}
  static void end_thread() {}
};

}  // namespace ithaca::cpu

// Attention's engine for bf16 on CPUs that multiply it: AVX512_BF16's dot products, or AMX's tiles.
//
// Both want the left operand by rows and the right one as pairs of consecutive rows side by side, right[k/2][n][2].
// With queries along the lanes (see attention_f32.h) every operand of the two passes comes in one of these forms,
// so one product serves them all. Products are rounded as the hardware does: f32 sums, denormals flushed.
#pragma once

#include "bf16_vector.h"

#if defined(ITHACA_BF16)

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace ithaca::cpu {

#if defined(ITHACA_AMX)
// C[rows][columns] (+)= A B, all three multiples of 32: two by two tiles of 16 by 16, 32 deep.
inline void multiply_amx(const bf16* a, std::int64_t lda, const bf16* b, std::int64_t ldb, float* c, std::int64_t ldc,
                         std::int64_t rows, std::int64_t columns, std::int64_t depth, bool accumulate) {
  publish_to_tiles(a);
  for (std::int64_t n = 0; n < columns; n += 32)
    for (std::int64_t m = 0; m < rows; m += 32) {
      float* to = c + m * ldc + n;
      begin_square(to, ldc, accumulate);
      for (std::int64_t k = 0; k < depth; k += 32) {
        const bf16* left = a + m * lda + k;
        const bf16* right = b + k * ldb + n * 2;
        add_to_square(left, left + 16 * lda, lda * 2, right, right + 32, ldb * 4);
      }
      end_square(to, ldc);
    }
}
#endif

// The same by vectors: 8 rows by 2 vectors of sums.
inline void multiply_dot(const bf16* a, std::int64_t lda, const bf16* b, std::int64_t ldb, float* c, std::int64_t ldc,
                         std::int64_t rows, std::int64_t columns, std::int64_t depth, bool accumulate) {
  for (std::int64_t n = 0; n < columns; n += 32)
    for (std::int64_t m = 0; m < rows; m += 8) {
      float* to = c + m * ldc + n;
      const bf16* left = a + m * lda;
      const bf16* right = b + n * 2;
      __m512 sum[8][2];
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i)
        for (int j = 0; j < 2; ++j)
          sum[i][j] = accumulate ? _mm512_loadu_ps(to + i * ldc + j * 16) : _mm512_setzero_ps();
      for (std::int64_t k = 0; k < depth; k += 2) {
        const auto first = __m512bh(_mm512_loadu_si512(right + k * ldb));
        const auto second = __m512bh(_mm512_loadu_si512(right + k * ldb + 32));
#pragma GCC unroll 8
        for (int i = 0; i < 8; ++i) {
          std::int32_t pair;
          std::memcpy(&pair, left + i * lda + k, sizeof pair);
          const auto both = __m512bh(_mm512_set1_epi32(pair));
          sum[i][0] = _mm512_dpbf16_ps(sum[i][0], both, first);
          sum[i][1] = _mm512_dpbf16_ps(sum[i][1], both, second);
        }
      }
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i)
        for (int j = 0; j < 2; ++j) _mm512_storeu_ps(to + i * ldc + j * 16, sum[i][j]);
    }
}

// Two vectors as bf16, lane by lane in pairs (first in the low half).
ITHACA_INLINE __m512i interleave(Vector first, Vector second) {
  const auto both = __m512i(_mm512_cvtne2ps_pbh(__m512(second), __m512(first)));
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                         5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_maskz_permutexvar_epi16(0xffffffffu, order, both);
}

// The engine; see F32Engine for what its members do.
template <bool Amx>
struct Bf16Engine {
  using Element = bf16;
  static constexpr int kPanel = 32;
  static constexpr std::int64_t kKeys = 64;
  static constexpr std::int64_t kKeyUnit = 32;
  static constexpr int kExpDegree = 4;
  static constexpr bool kInPlace = false;

  static std::int64_t padded(std::int64_t head_dim) { return round_up(head_dim, 32); }

  static void multiply(const bf16* a, std::int64_t lda, const bf16* b, std::int64_t ldb, float* c, std::int64_t ldc,
                       std::int64_t rows, std::int64_t columns, std::int64_t depth, bool accumulate) {
#if defined(ITHACA_AMX)
    if constexpr (Amx) return multiply_amx(a, lda, b, ldb, c, ldc, rows, columns, depth, accumulate);
#endif
    multiply_dot(a, lda, b, ldb, c, ldc, rows, columns, depth, accumulate);
  }

  // By rows: to[row][depth].
  static void pack_keys(const bf16* from, std::int64_t stride, std::int64_t count, std::int64_t head_dim, bf16* to,
                        std::int64_t rows, std::int64_t depth) {
    for (std::int64_t r = 0; r < count; ++r) {
      std::memcpy(to + r * depth, from + r * stride, static_cast<std::size_t>(head_dim) * sizeof(bf16));
      std::fill(to + r * depth + head_dim, to + (r + 1) * depth, bf16{0});
    }
    std::fill(to + count * depth, to + rows * depth, bf16{0});
  }

  // By columns: to[d][row], `ld` apart.
  static void pack_transposed(const bf16* from, std::int64_t stride, std::int64_t count, std::int64_t head_dim,
                              bf16* to, std::int64_t rows, std::int64_t ld, std::int64_t depth) {
    for (std::int64_t r = 0; r < rows; r += 32)
      for (std::int64_t d = 0; d < depth; d += 16) {
        IntVector block[16];
        for (int i = 0; i < 16; ++i)
          block[i] = load_pairs(from + (r + 2 * i) * stride, stride, count - r - 2 * i, d, head_dim);
        transpose(block);
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) _mm512_storeu_si512(to + (d + i) * ld + r, __m512i(block[i]));
      }
  }

  // By pairs of elements: to[d/2][row][2], `ld` rows a line.
  static void pack_columns(const bf16* from, std::int64_t stride, std::int64_t count, std::int64_t head_dim, bf16* to,
                           std::int64_t rows, std::int64_t depth) {
    for (std::int64_t r = 0; r < rows; r += 16)
      for (std::int64_t d = 0; d < depth; d += 32) {
        const auto lanes = first_lanes<__mmask32, 32>(head_dim - d);
        IntVector block[16];
        for (int i = 0; i < 16; ++i) {
          const __mmask32 here = r + i < count ? lanes : 0;
          block[i] = IntVector(_mm512_maskz_loadu_epi16(here, from + (r + i) * stride + d));
        }
        transpose(block);
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) _mm512_storeu_si512(to + (d + 2 * i) * rows + 2 * r, __m512i(block[i]));
      }
  }

  // By pairs of rows: to[row/2][d][2].
  static void pack_row_pairs(const bf16* from, std::int64_t stride, std::int64_t count, std::int64_t head_dim, bf16* to,
                             std::int64_t rows, std::int64_t depth) {
    for (std::int64_t r = 0; r < rows; r += 2)
      for (std::int64_t d = 0; d < depth; d += 16)
        _mm512_storeu_si512(to + r * depth + 2 * d,
                            __m512i(load_pairs(from + r * stride, stride, count - r, d, head_dim)));
  }

  static void pack_values(const bf16* v, std::int64_t stride, std::int64_t count, std::int64_t head_dim, bf16* to,
                          std::int64_t rows, std::int64_t depth) {
    pack_transposed(v, stride, count, head_dim, to, rows, kKeys, depth);
  }
  static void pack_queries(const bf16* q, std::int64_t stride, std::int64_t count, std::int64_t head_dim, bf16* to,
                           std::int64_t depth) {
    pack_columns(q, stride, count, head_dim, to, kPanel, depth);
  }

  static void scores(const bf16* keys, const bf16* queries, float* scores, std::int64_t rows, std::int64_t depth) {
    multiply(keys, depth, queries, kPanel, scores, kPanel, rows, kPanel, depth, false);
  }
  static ITHACA_INLINE void store_pair(bf16* probabilities, std::int64_t key, int lane, Vector even, Vector odd) {
    _mm512_storeu_si512(probabilities + key * kPanel + 2 * lane, interleave(even, odd));
  }
  static void accumulate(const bf16* values, const bf16* probabilities, float* out, std::int64_t rows,
                         std::int64_t depth) {
    multiply(values, kKeys, probabilities, kPanel, out, kPanel, depth, kPanel, rows, true);
  }

  static constexpr std::int64_t kGradQueries = 96;
  static constexpr std::int64_t kGradKeys = 96;

  static void pack_grad_columns(const bf16* from, std::int64_t stride, std::int64_t count, std::int64_t head_dim,
                                bf16* to, std::int64_t depth) {
    pack_columns(from, stride, count, head_dim, to, kGradQueries, depth);
  }
  static void pack_grad_rows(const bf16* from, std::int64_t stride, std::int64_t count, std::int64_t head_dim, bf16* to,
                             std::int64_t depth) {
    pack_row_pairs(from, stride, count, head_dim, to, kGradQueries, depth);
  }
  static void pack_transposed_keys(const bf16* k, std::int64_t stride, std::int64_t count, std::int64_t head_dim,
                                   bf16* to, std::int64_t rows, std::int64_t depth) {
    pack_transposed(k, stride, count, head_dim, to, rows, kGradKeys, depth);
  }

  static void grad_scores(const bf16* keys, const bf16* columns, float* scores, std::int64_t rows, std::int64_t depth) {
    multiply(keys, depth, columns, kGradQueries, scores, kGradQueries, rows, kGradQueries, depth, false);
  }
  static ITHACA_INLINE void store_square(bf16* left, bf16* right, std::int64_t key, int lane, const Vector (&x)[2][2]) {
    for (int j = 0; j < 2; ++j)
      _mm512_storeu_si512(left + (key + j) * kGradQueries + lane,
                          __m512i(_mm512_cvtne2ps_pbh(__m512(x[j][1]), __m512(x[j][0]))));
    if (right == nullptr) return;
    for (int n = 0; n < 2; ++n)
      _mm512_storeu_si512(right + key * kGradQueries + 2 * (lane + n * kLanes), interleave(x[0][n], x[1][n]));
  }
  static void grad_keys(const bf16* left, const bf16* query_rows, float* sum, std::int64_t rows, std::int64_t depth) {
    multiply(left, kGradQueries, query_rows, depth, sum, depth, rows, depth, kGradQueries, true);
  }
  static void grad_queries(const bf16*, const bf16* transposed_keys, const bf16*, const bf16* right, float* sum,
                           std::int64_t rows, std::int64_t depth) {
    multiply(transposed_keys, kGradKeys, right, kGradQueries, sum, kGradQueries, depth, kGradQueries, rows, true);
  }

  static void begin_thread() {
#if defined(ITHACA_AMX)
    if constexpr (Amx) configure_tiles();
#endif
  }
  static void end_thread() {
#if defined(ITHACA_AMX)
    if constexpr (Amx) _tile_release();
#endif
  }
};

}  // namespace ithaca::cpu

#endif

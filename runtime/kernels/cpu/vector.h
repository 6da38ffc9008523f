// Vectors of floats as wide as the machine's registers, and the little mathematics that attention needs.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "ithaca/dtype.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace ithaca::cpu {

#if defined(__AVX512F__)
inline constexpr int kLanes = 16;
// The forms with a mask, because g++ 12 warns about the plain ones' undefined source; it drops a full mask.
inline constexpr __mmask16 kAllLanes = 0xffff;
#elif defined(__AVX__)
inline constexpr int kLanes = 8;
#else
inline constexpr int kLanes = 4;
#endif

typedef float Vector __attribute__((vector_size(kLanes * sizeof(float))));
typedef std::int32_t IntVector __attribute__((vector_size(kLanes * sizeof(float))));

#define ITHACA_INLINE inline __attribute__((always_inline))

#if defined(__AVX512F__)
// A mask of the first `count` of `Lanes`; none where count is negative.
template <typename Mask, int Lanes>
ITHACA_INLINE Mask first_lanes(std::int64_t count) {
  return static_cast<Mask>((std::uint64_t{1} << std::clamp<std::int64_t>(count, 0, Lanes)) - 1);
}
#endif

ITHACA_INLINE Vector load_vector(const float* x) {
  Vector v;
  std::memcpy(&v, x, sizeof v);
  return v;
}

ITHACA_INLINE IntVector load_vector(const std::int32_t* x) {
  IntVector v;
  std::memcpy(&v, x, sizeof v);
  return v;
}

ITHACA_INLINE void store_vector(float* x, Vector v) { std::memcpy(x, &v, sizeof v); }
ITHACA_INLINE void store_vector(std::int32_t* x, IntVector v) { std::memcpy(x, &v, sizeof v); }

ITHACA_INLINE Vector broadcast(float x) { return x - Vector{}; }

// The larger of each pair; the second where either is NaN.
ITHACA_INLINE Vector max(Vector a, Vector b) {
#if defined(__AVX512F__)
  return Vector(_mm512_maskz_max_ps(kAllLanes, __m512(a), __m512(b)));
#else
  return a > b ? a : b;
#endif
}

// Whether any lane of a comparison's result is set.
ITHACA_INLINE bool any(IntVector condition) {
#if defined(__AVX512F__)
  return _mm512_test_epi32_mask(__m512i(condition), __m512i(condition)) != 0;
#else
  std::int32_t set = 0;
  for (int i = 0; i < kLanes; ++i) set |= condition[i];
  return set != 0;
#endif
}

// 2^x for x < 128, to a relative 9e-8 (Degree 5) or 3e-6 (4). Below 2^-125 it is 0; NaN stays NaN.
template <int Degree>
ITHACA_INLINE Vector exp2(Vector x) {
  static_assert(Degree == 4 || Degree == 5);
#if defined(__AVX512F__)
  // Lanes left out of the last step: a denormal result there would cost a hundred cycles.
  const __mmask16 kept = _mm512_cmp_ps_mask(__m512(x), __m512(broadcast(-125.0f)), _CMP_NLT_UQ);
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  const Vector n = Vector(_mm512_maskz_roundscale_ps(kAllLanes, __m512(x), kNearest));
#else
  x = max(broadcast(-160.0f), x);
  const Vector shifted = x + 12582912.0f;  // 1.5 * 2^23 leaves round(x) in the low bits
  const Vector n = shifted - 12582912.0f;
#endif
  const Vector r = x - n;
  Vector p;
  if constexpr (Degree == 5) {
    p = broadcast(1.3264726682e-3f);
    p = p * r + 9.6715126765e-3f;
    p = p * r + 5.5507337450e-2f;
    p = p * r + 2.4022242085e-1f;
    p = p * r + 6.9314697760e-1f;
  } else {
    p = broadcast(9.5828526897e-3f);
    p = p * r + 5.5906425178e-2f;
    p = p * r + 2.4024098622e-1f;
    p = p * r + 6.9312419331e-1f;
  }
  p = p * r + 1.0f;
#if defined(__AVX512F__)
  return Vector(_mm512_maskz_scalef_ps(kept, __m512(p), __m512(n)));
#else
  const IntVector exponent = (IntVector(shifted) << 23) + (127 << 23);
  const Vector power = Vector(exponent);
  return n < -125.0f ? Vector{} : p * power;
#endif
}

// tanh for softcap, by 2^x: absolute error about 1e-7.
ITHACA_INLINE Vector tanh(Vector x) {
  const Vector magnitude = x < 0.0f ? -x : x;
  const Vector e = exp2<5>(magnitude * -2.88539008177792682f);
  const Vector t = (1.0f - e) / (1.0f + e);
  return x < 0.0f ? -t : t;
}

// Turns kLanes rows into kLanes columns: stage by stage, lanes with bit `stage` change places with the other row's.
template <typename Row>
ITHACA_INLINE void transpose(Row (&rows)[kLanes]) {
  IntVector lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
#pragma GCC unroll 4
  for (int stage = kLanes / 2; stage > 0; stage /= 2) {
    // In a shuffle of two vectors, lanes kLanes and up are the second one's.
    const IntVector upper = (lane & stage) != 0 ? lane - stage + kLanes : lane;
    const IntVector lower = (lane & stage) != 0 ? lane + kLanes : lane + stage;
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      if (i & stage) continue;
      const Row a = rows[i], b = rows[i | stage];
      rows[i] = __builtin_shuffle(a, b, upper);
      rows[i | stage] = __builtin_shuffle(a, b, lower);
    }
  }
}

// Writes `count` rows of head_dim elements, `stride` apart, from columns: from[d][row], `ld` apart, times factor[row].
template <typename T>
void store_columns(const float* from, std::int64_t ld, const float* factor, T* to, std::int64_t stride,
                   std::int64_t count, std::int64_t head_dim) {
  for (std::int64_t r = 0; r < count; r += kLanes)
    for (std::int64_t d = 0; d < head_dim; d += kLanes) {
      Vector block[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) block[i] = load_vector(from + (d + i) * ld + r) * load_vector(factor + r);
      transpose(block);
      float lines[kLanes][kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) store_vector(lines[i], block[i]);
      const std::int64_t rows = count - r < kLanes ? count - r : kLanes;
      T* target = to + r * stride + d;
      if (head_dim - d >= kLanes) {
        for (std::int64_t i = 0; i < rows; ++i)
          for (int j = 0; j < kLanes; ++j) target[i * stride + j] = from_float<T>(lines[i][j]);
      } else {
        for (std::int64_t i = 0; i < rows; ++i)
          for (std::int64_t j = 0; j < head_dim - d; ++j) target[i * stride + j] = from_float<T>(lines[i][j]);
      }
    }
}

constexpr std::int64_t round_up(std::int64_t n, std::int64_t unit) { return (n + unit - 1) / unit * unit; }

}  // namespace ithaca::cpu

// Loads and stores of up to a vector of elements, and conversion on the way.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "vector.h"

namespace ithaca::cpu {

#if defined(__AVX512BW__) && defined(__AVX512VL__)

// `count` elements from `from` on; lanes behind them are 0, and what lies there isn't touched.
ITHACA_INLINE Vector load_lanes(const float* from, std::int64_t count) {
  return Vector(_mm512_maskz_loadu_ps(first_lanes<__mmask16, 16>(count), from));
}

ITHACA_INLINE Vector load_lanes(const bf16* from, std::int64_t count) {
  const __m256i bits = _mm256_maskz_loadu_epi16(first_lanes<__mmask16, 16>(count), from);
  return Vector(_mm512_maskz_slli_epi32(kAllLanes, _mm512_maskz_cvtepu16_epi32(kAllLanes, bits), 16));
}

ITHACA_INLINE void store_lanes(float* to, std::int64_t count, Vector value) {
  _mm512_mask_storeu_ps(to, first_lanes<__mmask16, 16>(count), __m512(value));
}

ITHACA_INLINE void store_lanes(bf16* to, std::int64_t count, Vector value) {
#if defined(__AVX512BF16__)
  const auto bits = __m256i(_mm512_cvtneps_pbh(__m512(value)));
#else
  alignas(32) bf16 rounded[kLanes];
  for (int i = 0; i < kLanes; ++i) rounded[i] = to_bf16(value[i]);
  const __m256i bits = _mm256_load_si256(reinterpret_cast<const __m256i*>(rounded));
#endif
  _mm256_mask_storeu_epi16(to, first_lanes<__mmask16, 16>(count), bits);
}

#else

template <typename T>
ITHACA_INLINE Vector load_lanes(const T* from, std::int64_t count) {
  Vector value{};
  for (int i = 0; i < std::min<std::int64_t>(count, kLanes); ++i) value[i] = from[i];
  return value;
}

template <typename T>
ITHACA_INLINE void store_lanes(T* to, std::int64_t count, Vector value) {
  for (int i = 0; i < std::min<std::int64_t>(count, kLanes); ++i) to[i] = from_float<T>(value[i]);
}

#endif

}  // namespace ithaca::cpu

// What the bf16 kernels for AVX512_BF16 and AMX share: loading pairs of rows, and the tile registers' set-up.
#pragma once

#include "vector.h"

#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define ITHACA_BF16 1

#include <cstdint>

#if defined(__AMX_BF16__) && defined(__linux__)
#define ITHACA_AMX 1
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace ithaca::cpu {

// Elements d .. d + 15 of rows `even` and the one after it, side by side as 16 pairs. `present` rows exist (0 to 2),
// and head_dim elements.
ITHACA_INLINE IntVector load_pairs(const bf16* even, std::int64_t stride, std::int64_t present, std::int64_t d,
                                   std::int64_t head_dim) {
  const auto lanes = first_lanes<__mmask16, 16>(head_dim - d);
  const __mmask16 low_lanes = present > 0 ? lanes : __mmask16{0};
  const __mmask16 high_lanes = present > 1 ? lanes : __mmask16{0};
  const __m256i low = _mm256_maskz_loadu_epi16(low_lanes, even + d);
  const __m256i high = _mm256_maskz_loadu_epi16(high_lanes, even + stride + d);
  const auto low_wide = IntVector(_mm512_maskz_cvtepu16_epi32(kAllLanes, low));
  const auto high_wide = IntVector(_mm512_maskz_cvtepu16_epi32(kAllLanes, high));
  return low_wide | (high_wide << 16);
}

// One step of bf16 for multiply_registers: two neighbours along the summed dimension at a time, as pairs.
struct DotProduct {
  using Unit = std::int32_t;
  using Units = IntVector;

  static ITHACA_INLINE Vector step(Vector sum, Unit left, Units right) {
    return Vector(_mm512_dpbf16_ps(__m512(sum), __m512bh(_mm512_set1_epi32(left)), __m512bh(__m512i(right))));
  }
};

#if defined(ITHACA_AMX)
// Linux hands the tile registers to a process that asks for them; once is enough.
inline bool amx_granted() {
  static const bool granted = [] {
    constexpr long kRequestPermission = 0x1023, kTileData = 18;
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  }();
  return granted;
}

// g++'s tile loads don't tell the compiler that they read memory: this makes it write what it still holds.
ITHACA_INLINE void publish_to_tiles(const void* data) { asm volatile("" : : "r"(data) : "memory"); }

// Eight tiles of 16 rows of 64 bytes, for the calling thread, until _tile_release().
inline void configure_tiles() {
  struct alignas(64) Configuration {
    std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
    std::uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } configuration;
  publish_to_tiles(&configuration);
  _tile_loadconfig(&configuration);
}

// Tiles 0 to 3 hold a square of 32 by 32 sums: what is in c, or zeros.
ITHACA_INLINE void begin_square(const float* c, std::int64_t ldc, bool accumulate) {
  const std::int64_t stride = ldc * 4;
  if (accumulate) {
    _tile_loadd(0, c, stride);
    _tile_loadd(1, c + 16, stride);
    _tile_loadd(2, c + 16 * ldc, stride);
    _tile_loadd(3, c + 16 * ldc + 16, stride);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
}

// Adds the product of two tiles of rows and two of columns, 32 deep; strides are in bytes.
ITHACA_INLINE void add_to_square(const bf16* upper, const bf16* lower, std::int64_t rows_stride, const bf16* left,
                                 const bf16* right, std::int64_t columns_stride) {
  _tile_loadd(4, upper, rows_stride);
  _tile_loadd(6, left, columns_stride);
  _tile_loadd(5, lower, rows_stride);
  _tile_loadd(7, right, columns_stride);
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(1, 4, 7);
  _tile_dpbf16ps(3, 5, 7);
}

ITHACA_INLINE void end_square(float* c, std::int64_t ldc) {
  const std::int64_t stride = ldc * 4;
  _tile_stored(0, c, stride);
  _tile_stored(1, c + 16, stride);
  _tile_stored(2, c + 16 * ldc, stride);
  _tile_stored(3, c + 16 * ldc + 16, stride);
}
#endif

}  // namespace ithaca::cpu

#endif

// Products by vector registers: f32, bf16 by dot products of pairs, and bf16 widened to f32 where the CPU has neither.
//
// Packed, both operands are lines side by side, unit by unit along K: left[k][kLanes], right[k][3 * kLanes]. A unit is
// a float, or a pair of bf16.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "bf16_vector.h"
#include "lanes.h"
#include "product.h"
#include "registers.h"

namespace ithaca::cpu {

// Units of one element of T, as f32. `along` reads kLanes units of one line, of which `count` elements exist; `across`
// reads one unit each of kLanes lines, of which `lines` exist, and `count` elements along K.
template <typename T>
struct FloatUnits {
  using Element = T;
  using Step = MultiplyAdd;
  static constexpr int kElements = 1;
  static constexpr Blocks kBlocks = sizeof(T) == sizeof(float) ? kFloatBlocks : kWideBlocks;

  static ITHACA_INLINE IntVector along(const T* from, std::int64_t count) { return IntVector(load_lanes(from, count)); }
  static ITHACA_INLINE IntVector across(const T* from, std::int64_t, std::int64_t count, std::int64_t lines) {
    return IntVector(load_lanes(from, count > 0 ? lines : 0));
  }
};

#if defined(ITHACA_BF16)
struct PairUnits {
  using Element = bf16;
  using Step = DotProduct;
  static constexpr int kElements = 2;
  static constexpr Blocks kBlocks = kPairBlocks;

  static ITHACA_INLINE IntVector along(const bf16* from, std::int64_t count) {
    return IntVector(_mm512_maskz_loadu_epi16(first_lanes<__mmask32, 32>(count), from));
  }
  static ITHACA_INLINE IntVector across(const bf16* from, std::int64_t ld, std::int64_t count, std::int64_t lines) {
    return load_pairs(from, ld, count, 0, lines);
  }
};
#endif

template <typename Units>
struct VectorEngine {
  using Element = typename Units::Element;
  using Step = typename Units::Step;
  using Unit = typename Step::Unit;
  static constexpr Blocks kBlocks = Units::kBlocks;
  static constexpr std::int64_t kRows = kLanes, kColumns = 3 * kLanes, kColumnUnit = kLanes;
  static constexpr std::int64_t kPacking = 8;
  static_assert(kRows <= kBlocks.rows && kColumns <= kBlocks.columns);

  // `Vectors` times kLanes lines, to[k][Vectors * kLanes].
  template <int Vectors>
  static void pack(const Operand<Element>& from, std::int64_t line, std::int64_t lines, std::int64_t k,
                   std::int64_t count, std::int64_t depth, std::byte* to) {
    constexpr std::int64_t kStep = Units::kElements;
    auto* units = reinterpret_cast<std::int32_t*>(to);
    if (!from.along) {
      for (std::int64_t d = 0; d < depth; d += kStep)
        for (int v = 0; v < Vectors; ++v, units += kLanes)
          store_vector(units, Units::across(from.at(line + v * kLanes, k + d), from.ld, count - d, lines - v * kLanes));
      return;
    }
    for (int v = 0; v < Vectors; ++v)
      for (std::int64_t d = 0; d < depth; d += kLanes * kStep) {
        IntVector block[kLanes];
        for (int i = 0; i < kLanes; ++i) {
          const std::int64_t at = v * kLanes + i;
          block[i] = at < lines ? Units::along(from.at(line + at, k + d), count - d) : IntVector{};
        }
        transpose(block);
        std::int32_t* first = units + (d / kStep * Vectors + v) * kLanes;
        const std::int64_t there = std::min<std::int64_t>(kLanes, (depth - d) / kStep);
        for (std::int64_t i = 0; i < there; ++i) store_vector(first + i * Vectors * kLanes, block[i]);
      }
  }

  static void pack_left(const Operand<Element>& a, std::int64_t line, std::int64_t lines, std::int64_t k,
                        std::int64_t count, std::int64_t depth, std::byte* to) {
    pack<1>(a, line, lines, k, count, depth, to);
  }
  static void pack_right(const Operand<Element>& b, std::int64_t line, std::int64_t lines, std::int64_t k,
                         std::int64_t count, std::int64_t depth, std::byte* to) {
    pack<3>(b, line, lines, k, count, depth, to);
  }

  static void multiply(const std::byte* left, const std::byte* right, std::int64_t depth, float* c, std::int64_t ldc,
                       std::int64_t columns, bool accumulate) {
    switch (columns / kLanes) {
      case 1: return multiply_columns<1>(left, right, depth, c, ldc, accumulate);
      case 2: return multiply_columns<2>(left, right, depth, c, ldc, accumulate);
      default: return multiply_columns<3>(left, right, depth, c, ldc, accumulate);
    }
  }

  static void begin_thread() {}
  static void end_thread() {}

 private:
  template <int Vectors>
  static void multiply_columns(const std::byte* left, const std::byte* right, std::int64_t depth, float* c,
                               std::int64_t ldc, bool accumulate) {
    const auto* rows = reinterpret_cast<const Unit*>(left);
    const auto* columns = reinterpret_cast<const Unit*>(right);
    for (int m = 0; m < kRows; m += kRowsOf3)
      multiply_registers<kRowsOf3, Vectors, true, Step>(rows + m, kLanes, columns, kColumns, c + m * ldc, ldc,
                                                        depth / Units::kElements, accumulate);
  }
};

}  // namespace ithaca::cpu

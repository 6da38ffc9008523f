// bf16 products on AMX: squares of 32 by 32 elements of C in four of the eight tile registers.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "bf16_vector.h"
#include "product.h"

#if defined(ITHACA_AMX)

namespace ithaca::cpu {

struct TileEngine {
  using Element = bf16;
  static constexpr Blocks kBlocks = kTileBlocks;
  static constexpr std::int64_t kRows = 32, kColumns = 32, kColumnUnit = 32;
  static constexpr std::int64_t kPacking = 50;
  static constexpr std::int64_t kTile = 16 * 32;  // elements of a tile: 16 lines of 64 bytes

  // 32 lines by `depth` (of 32) as tiles of 16 lines by 32, a line of the tile 32 elements of one line of the operand.
  static void pack_left(const Operand<bf16>& a, std::int64_t line, std::int64_t lines, std::int64_t k,
                        std::int64_t count, std::int64_t depth, std::byte* packed) {
    auto* to = reinterpret_cast<bf16*>(packed);
    if (a.along) {
      // One line after the other, so that memory is read in order.
      for (std::int64_t i = 0; i < kRows; ++i) {
        bf16* row = to + i / 16 * kTile + i % 16 * 32;
        for (std::int64_t d = 0; d < depth; d += 32, row += 2 * kTile) {
          const auto mask = first_lanes<__mmask32, 32>(i < lines ? count - d : 0);
          _mm512_store_si512(row, _mm512_maskz_loadu_epi16(mask, a.at(line + i, k + d)));
        }
      }
      return;
    }
    for (std::int64_t d = 0; d < depth; d += 32)
      for (std::int64_t half = 0; half < 2; ++half, to += kTile) {
        const std::int64_t present = std::clamp<std::int64_t>(lines - half * 16, 0, 16);
        const std::int64_t elements = std::clamp<std::int64_t>(count - d, 0, 32);
        IntVector block[16];
        for (int i = 0; i < 16; ++i)
          block[i] = load_pairs(a.at(line + half * 16, k + d + 2 * i), a.ld, elements - 2 * i, 0, present);
        transpose(block);
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) _mm512_store_si512(to + i * 32, __m512i(block[i]));
      }
  }

  // The same 32 lines as the right side of a product: 16 pairs of elements of 16 lines, right[k/2][line][2].
  static void pack_right(const Operand<bf16>& b, std::int64_t line, std::int64_t lines, std::int64_t k,
                         std::int64_t count, std::int64_t depth, std::byte* packed) {
    auto* to = reinterpret_cast<bf16*>(packed);
    for (std::int64_t d = 0; d < depth; d += 32)
      for (std::int64_t half = 0; half < 2; ++half, to += kTile) {
        const std::int64_t present = std::clamp<std::int64_t>(lines - half * 16, 0, 16);
        const std::int64_t elements = std::clamp<std::int64_t>(count - d, 0, 32);
        if (b.along) {
          const auto mask = first_lanes<__mmask32, 32>(elements);
          IntVector block[16];
          for (int i = 0; i < 16; ++i)
            block[i] = i < present ? IntVector(_mm512_maskz_loadu_epi16(mask, b.at(line + half * 16 + i, k + d)))
                                   : IntVector{};
          transpose(block);
#pragma GCC unroll 16
          for (int i = 0; i < 16; ++i) _mm512_store_si512(to + i * 32, __m512i(block[i]));
        } else {
          for (int i = 0; i < 16; ++i) {
            const bf16* from = b.at(line + half * 16, k + d + 2 * i);
            _mm512_store_si512(to + i * 32, __m512i(load_pairs(from, b.ld, elements - 2 * i, 0, present)));
          }
        }
      }
  }

  static void multiply(const std::byte* left, const std::byte* right, std::int64_t depth, float* c, std::int64_t ldc,
                       std::int64_t, bool accumulate) {
    auto* rows = reinterpret_cast<const bf16*>(left);
    auto* columns = reinterpret_cast<const bf16*>(right);
    publish_to_tiles(left);
    begin_square(c, ldc, accumulate);
    for (std::int64_t k = 0; k < depth; k += 32, rows += 2 * kTile, columns += 2 * kTile)
      add_to_square(rows, rows + kTile, 64, columns, columns + kTile, 64);
    end_square(c, ldc);
  }

  static void begin_thread() { configure_tiles(); }
  static void end_thread() { _tile_release(); }
};

}  // namespace ithaca::cpu

#endif

// bf16 products on AMX: every thread multiplies a rectangle of C, with its own packed blocks of A and B.
//
// The loops are those of Goto & van de Geijn (2008): a block of B (1 MiB) stays in the second-level cache, a panel
// of 32 rows of A in the first, and 32 by 32 elements of C in four of the eight tile registers. Threads don't wait
// for each other: each packs what it needs, and the rectangles are chosen so that little is packed twice.
// oneDNN 2.6 reaches half of this speed for products with a transposed left side, which every weight gradient is.
#include "matmul_amx.h"

#include <omp.h>

#include <algorithm>
#include <cstring>

#include "bf16_vector.h"
#include "scratch.h"

namespace ithaca::cpu {

#if defined(ITHACA_AMX)

namespace {

constexpr std::int64_t kSide = 32;                // of the square of C in tile registers
constexpr std::int64_t kTile = 16 * 32;           // elements of a tile: 16 lines of 64 bytes
constexpr std::int64_t kBlockElements = 1 << 19;  // of B's block
constexpr std::int64_t kSumRows = 1024;           // rows of f32 sums kept while a bf16 result is unfinished

// One operand, seen as a list of lines (rows of A, columns of B) along which products are summed.
struct Operand {
  const bf16* data;
  std::int64_t ld;
  bool along;  // a line's elements lie next to each other

  const bf16* at(std::int64_t line, std::int64_t k) const {
    return along ? data + line * ld + k : data + k * ld + line;
  }
};

// 32 lines by `depth` (of 32) as tiles of 16 lines by 32, a line of the tile 32 elements of one line of the operand.
void pack_left(const Operand& a, std::int64_t line, std::int64_t lines, std::int64_t k, std::int64_t count,
               std::int64_t depth, bf16* to) {
  if (a.along) {
    // One line after the other, so that memory is read in order.
    for (std::int64_t i = 0; i < kSide; ++i) {
      bf16* row = to + i / 16 * kTile + i % 16 * 32;
      for (std::int64_t d = 0; d < depth; d += 32, row += 2 * kTile) {
        const std::int64_t elements = i < lines ? std::clamp<std::int64_t>(count - d, 0, 32) : 0;
        const auto mask = static_cast<__mmask32>((std::uint64_t{1} << elements) - 1);
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
void pack_right(const Operand& b, std::int64_t line, std::int64_t lines, std::int64_t k, std::int64_t count,
                std::int64_t depth, bf16* to) {
  for (std::int64_t d = 0; d < depth; d += 32)
    for (std::int64_t half = 0; half < 2; ++half, to += kTile) {
      const std::int64_t present = std::clamp<std::int64_t>(lines - half * 16, 0, 16);
      const std::int64_t elements = std::clamp<std::int64_t>(count - d, 0, 32);
      if (b.along) {
        const auto mask = static_cast<__mmask32>((std::uint64_t{1} << elements) - 1);
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

// c[32][32] (+)= left right, both packed, `depth` deep.
ITHACA_INLINE void multiply_square(const bf16* left, const bf16* right, std::int64_t depth, float* c, std::int64_t ldc,
                                   bool accumulate) {
  begin_square(c, ldc, accumulate);
  for (std::int64_t k = 0; k < depth; k += 32, left += 2 * kTile, right += 2 * kTile) {
    add_to_square(left, left + kTile, 64, right, right + kTile, 64);
  }
  end_square(c, ldc);
}

void store_lanes(float* to, __mmask16 lanes, __m512 value) { _mm512_mask_storeu_ps(to, lanes, value); }
void store_lanes(bf16* to, __mmask16 lanes, __m512 value) {
  _mm256_mask_storeu_epi16(to, lanes, __m256i(_mm512_cvtneps_pbh(value)));
}
__m512 load_lanes(const float* from, __mmask16 lanes) { return _mm512_maskz_loadu_ps(lanes, from); }
__m512 load_lanes(const bf16* from, __mmask16 lanes) {
  return __m512(_mm512_maskz_slli_epi32(
      kAllLanes, _mm512_maskz_cvtepu16_epi32(kAllLanes, _mm256_maskz_loadu_epi16(lanes, from)), 16));
}

// c[rows][columns] (+)= sums[rows][columns] + bias, at most 32 by 32.
template <typename O>
void finish_square(const float* sums, std::int64_t ld, O* c, std::int64_t ldc, std::int64_t rows, std::int64_t columns,
                   bool accumulate, const bf16* bias) {
  for (std::int64_t n = 0; n < columns; n += 16) {
    const auto lanes = static_cast<__mmask16>(columns - n >= 16 ? 0xffff : (1 << (columns - n)) - 1);
    const __m512 offset = bias == nullptr ? _mm512_setzero_ps() : load_lanes(bias + n, lanes);
    for (std::int64_t m = 0; m < rows; ++m) {
      __m512 value = _mm512_loadu_ps(sums + m * ld + n) + offset;
      if (accumulate) value += load_lanes(c + m * ldc + n, lanes);
      store_lanes(c + m * ldc + n, lanes, value);
    }
  }
}

struct Rectangle {
  std::int64_t row, row_end, column, column_end;
};

template <typename O>
struct Product {
  Operand a, b;
  O* c;
  std::int64_t N, K;
  bool accumulate;
  const bf16* bias;

  // The depth of a block, at most. An f32 result holds its own sums between blocks; a bf16 one has to leave them in
  // scratch, which is worth avoiding up to 2048.
  std::int64_t deepest() const { return sizeof(O) == sizeof(float) ? 768 : K <= 2048 ? 2048 : 1024; }

  void run(const Rectangle& r) const {
    const std::int64_t blocks = (K + deepest() - 1) / deepest();
    const std::int64_t depth = round_up((K + blocks - 1) / blocks, 32);
    const std::int64_t fitting = kBlockElements / depth / kSide * kSide;
    const std::int64_t width = std::min(fitting, round_up(r.column_end - r.column, kSide));
    // Sums wait in scratch for the later blocks of K, unless C itself can hold them.
    const bool keep = blocks > 1 && (sizeof(O) != sizeof(float) || bias != nullptr);
    const std::int64_t height = keep ? kSumRows : round_up(r.row_end - r.row, kSide);
    const std::int64_t sums_rows = keep ? std::min(kSumRows, round_up(r.row_end - r.row, kSide)) : kSide;
    const std::int64_t sums_ld = keep ? width : kSide;
    auto* block = static_cast<bf16*>(thread_scratch().at_least(
        static_cast<std::size_t>(depth * (width + kSide)) * sizeof(bf16) +
        static_cast<std::size_t>(sums_rows * sums_ld) * sizeof(float)));
    bf16* panel = block + depth * width;
    auto* sums = reinterpret_cast<float*>(panel + depth * kSide);
    for (std::int64_t n0 = r.column; n0 < r.column_end; n0 += width) {
      const std::int64_t n1 = std::min(n0 + width, r.column_end);
      for (std::int64_t m0 = r.row; m0 < r.row_end; m0 += height) {
        const std::int64_t m1 = std::min(m0 + height, r.row_end);
        for (std::int64_t k0 = 0; k0 < K; k0 += depth) {
          const std::int64_t count = std::min(depth, K - k0);
          const bool first = k0 == 0, last = k0 + depth >= K;
          for (std::int64_t n = n0; n < n1; n += kSide)
            pack_right(b, n, std::min(kSide, n1 - n), k0, count, depth, block + (n - n0) * depth);
          for (std::int64_t m = m0; m < m1; m += kSide) {
            const std::int64_t rows = std::min(kSide, m1 - m);
            pack_left(a, m, rows, k0, count, depth, panel);
            publish_to_tiles(panel);
            for (std::int64_t n = n0; n < n1; n += kSide) {
              const std::int64_t columns = std::min(kSide, n1 - n);
              const bf16* right = block + (n - n0) * depth;
              O* to = c + m * N + n;
              if constexpr (sizeof(O) == sizeof(float)) {
                if (bias == nullptr && rows == kSide && columns == kSide) {
                  multiply_square(panel, right, depth, to, N, accumulate || !first);
                  continue;
                }
              }
              const bf16* offset = bias == nullptr ? nullptr : bias + n;
              float* sum = keep ? sums + (m - m0) * sums_ld + (n - n0) : sums;
              multiply_square(panel, right, depth, sum, sums_ld, keep && !first);
              if (!keep)
                finish_square(sum, sums_ld, to, N, rows, columns, accumulate || !first, first ? offset : nullptr);
              else if (last)
                finish_square(sum, sums_ld, to, N, rows, columns, accumulate, offset);
            }
          }
        }
      }
    }
  }
};

// Threads in a grid of rows by columns: the one whose largest rectangle costs least, counting 64 cycles for a
// square's 32 steps and about 100 for packing 32 lines of them.
int grid_rows(std::int64_t M, std::int64_t N, int threads) {
  int best = 1;
  std::int64_t least = INT64_MAX;
  for (int rows = 1; rows <= threads; ++rows) {
    if (threads % rows != 0) continue;
    const std::int64_t m = (round_up(M, kSide) / kSide + rows - 1) / rows;
    const std::int64_t n = (round_up(N, kSide) / kSide + threads / rows - 1) / (threads / rows);
    const std::int64_t cost = 64 * m * n + 100 * (m + n);
    if (cost < least) least = cost, best = rows;
  }
  return best;
}

}  // namespace

bool matmul_amx_available() { return amx_granted(); }

template <typename O>
void matmul_amx(const bf16* a, const bf16* b, O* c, std::int64_t M, std::int64_t N, std::int64_t K, bool transpose_a,
                bool transpose_b, bool accumulate, const bf16* bias) {
  const Product<O> product{{a, transpose_a ? M : K, !transpose_a}, {b, transpose_b ? K : N, transpose_b}, c, N, K,
                           accumulate, bias};
  const int threads = omp_get_max_threads();
  const int rows = grid_rows(M, N, threads), columns = threads / rows;
  const std::int64_t m_squares = round_up(M, kSide) / kSide, n_squares = round_up(N, kSide) / kSide;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int part = 0; part < rows * columns; ++part) {
    const std::int64_t i = part / columns, j = part % columns;
    const Rectangle rectangle{i * m_squares / rows * kSide, std::min(M, (i + 1) * m_squares / rows * kSide),
                              j * n_squares / columns * kSide, std::min(N, (j + 1) * n_squares / columns * kSide)};
    if (rectangle.row >= rectangle.row_end || rectangle.column >= rectangle.column_end) continue;
    configure_tiles();
    product.run(rectangle);
    _tile_release();
  }
}

#else

bool matmul_amx_available() { return false; }

template <typename O>
void matmul_amx(const bf16*, const bf16*, O*, std::int64_t, std::int64_t, std::int64_t, bool, bool, bool, const bf16*) {
  fail("matmul_amx: this build has no AMX");
}

#endif

template void matmul_amx(const bf16*, const bf16*, float*, std::int64_t, std::int64_t, std::int64_t, bool, bool, bool,
                         const bf16*);
template void matmul_amx(const bf16*, const bf16*, bf16*, std::int64_t, std::int64_t, std::int64_t, bool, bool, bool,
                         const bf16*);

}  // namespace ithaca::cpu

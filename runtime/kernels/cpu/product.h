// Products of matrices in packed blocks; what multiplies a block is an engine (product_vector.h, product_amx.h).
//
// The loops are those of Goto & van de Geijn (2008): a block of B stays in the second-level cache, a panel of a few
// rows of A in the first, and a square of C in registers. Every thread multiplies a rectangle of C with its own blocks
// of A and B and waits for no other: each packs what it needs, and rectangles are chosen so that little is packed twice.
// Sums are taken in blocks along K that depend on K alone, so that an element of C has the same bits however many rows,
// columns or threads there are.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "lanes.h"
#include "matmul.h"

namespace ithaca::cpu {

// One operand, seen as a list of lines (rows of A, columns of B) along which products are summed.
template <typename T>
struct Operand {
  const T* data;
  std::int64_t ld;
  bool along;  // a line's elements lie next to each other

  const T* at(std::int64_t line, std::int64_t k) const { return along ? data + line * ld + k : data + k * ld + line; }
};

// An engine has an Element, its blocking as kBlocks, and a square of kRows by kColumns, whole to the next kColumnUnit.
// It packs kRows lines of A, or kColumns of B, `count` deep and filled with zeros to `depth` and to the whole square:
//   pack_left(a, line, lines, k, count, depth, to), pack_right(b, ...)
// and multiplies two packed panels into c[kRows][columns]:
//   multiply(left, right, depth, c, ldc, columns, accumulate)
// begin_thread() and end_thread() stand around a thread's work.

struct Rectangle {
  std::int64_t row, row_end, column, column_end;
};

// What is there of c, in a square of sums.
inline void read_square(float* sums, std::int64_t ld, const float* c, std::int64_t ldc, std::int64_t rows,
                        std::int64_t columns) {
  for (std::int64_t m = 0; m < rows; ++m)
    for (std::int64_t n = 0; n < columns; n += kLanes)
      store_vector(sums + m * ld + n, load_lanes(c + m * ldc + n, columns - n));
}

// c[rows][columns] (+)= sums[rows][columns].
template <typename O>
void finish_square(const float* sums, std::int64_t ld, O* c, std::int64_t ldc, std::int64_t rows, std::int64_t columns,
                   bool accumulate) {
  for (std::int64_t n = 0; n < columns; n += kLanes)
    for (std::int64_t m = 0; m < rows; ++m) {
      O* to = c + m * ldc + n;
      Vector value = load_vector(sums + m * ld + n);
      if (accumulate) value += load_lanes(to, columns - n);
      store_lanes(to, columns - n, value);
    }
}

template <typename Engine, typename O>
struct Product {
  using T = typename Engine::Element;
  static constexpr std::int64_t kRows = Engine::kRows, kColumns = Engine::kColumns;
  static constexpr bool kHoldsSums = std::is_same_v<O, float>;  // C itself, between blocks of K

  Operand<T> a, b;
  O* c;
  std::int64_t N, K;
  bool accumulate;

  void run(const Rectangle& r, std::byte* workspace) const {
    const BlockSizes sizes = block_sizes(Engine::kBlocks, K, kHoldsSums);
    const std::int64_t depth = sizes.depth, line = depth * Engine::kBlocks.bytes;
    const std::int64_t width = std::min(sizes.width / kColumns * kColumns, round_up(r.column_end - r.column, kColumns));
    const std::int64_t all_rows = round_up(r.row_end - r.row, kRows);
    const std::int64_t height = sizes.keeps_sums ? std::min(Engine::kBlocks.sum_rows, all_rows) : all_rows;
    std::byte* block = workspace;
    std::byte* panel = block + line * width;
    auto* sums = reinterpret_cast<float*>(panel + line * kRows);
    for (std::int64_t n0 = r.column; n0 < r.column_end; n0 += width) {
      const std::int64_t n1 = std::min(n0 + width, r.column_end);
      for (std::int64_t m0 = r.row; m0 < r.row_end; m0 += height) {
        const std::int64_t m1 = std::min(m0 + height, r.row_end);
        for (std::int64_t k0 = 0; k0 < K; k0 += depth) {
          const std::int64_t count = std::min(depth, K - k0);
          const bool first = k0 == 0, last = k0 + depth >= K;
          for (std::int64_t n = n0; n < n1; n += kColumns)
            Engine::pack_right(b, n, std::min(kColumns, n1 - n), k0, count, depth, block + (n - n0) * line);
          for (std::int64_t m = m0; m < m1; m += kRows) {
            const std::int64_t rows = std::min(kRows, m1 - m);
            Engine::pack_left(a, m, rows, k0, count, depth, panel);
            for (std::int64_t n = n0; n < n1; n += kColumns) {
              const std::byte* right = block + (n - n0) * line;
              const std::int64_t columns = std::min(kColumns, n1 - n), whole = round_up(columns, Engine::kColumnUnit);
              O* to = c + m * N + n;
              if constexpr (kHoldsSums) {
                if (rows == kRows && columns == whole) {
                  Engine::multiply(panel, right, depth, to, N, columns, accumulate || !first);
                } else {
                  // As if the square were whole, for the same bits.
                  alignas(64) float square[kRows * kColumns];
                  const bool add = accumulate || !first;
                  if (add) read_square(square, kColumns, to, N, rows, columns);
                  Engine::multiply(panel, right, depth, square, kColumns, whole, add);
                  finish_square(square, kColumns, to, N, rows, columns, false);
                }
              } else if (sizes.keeps_sums) {
                float* sum = sums + (m - m0) * width + (n - n0);
                Engine::multiply(panel, right, depth, sum, width, whole, !first);
                if (last) finish_square(sum, width, to, N, rows, columns, accumulate);
              } else {
                alignas(64) float square[kRows * kColumns];
                Engine::multiply(panel, right, depth, square, kColumns, whole, false);
                finish_square(square, kColumns, to, N, rows, columns, accumulate);
              }
            }
          }
        }
      }
    }
  }
};

// Threads in a grid of rows by columns: the one whose largest rectangle costs least, where a line that is packed costs
// as much as `packing` elements of C.
inline int grid_rows(std::int64_t row_squares, std::int64_t column_squares, std::int64_t rows, std::int64_t columns,
                     std::int64_t packing, int threads) {
  int best = 1;
  std::int64_t least = INT64_MAX;
  for (int i = 1; i <= threads; ++i) {
    if (threads % i != 0) continue;
    const std::int64_t m = (row_squares + i - 1) / i * rows;
    const std::int64_t n = (column_squares + threads / i - 1) / (threads / i) * columns;
    const std::int64_t cost = m * n + packing * (m + n);
    if (cost < least) least = cost, best = i;
  }
  return best;
}

template <typename Engine, typename T, typename O>
void multiply(const T* a, const T* b, O* c, std::int64_t M, std::int64_t N, std::int64_t K, bool transpose_a,
              bool transpose_b, bool accumulate, void* workspace) {
  const Product<Engine, O> product{
      {a, transpose_a ? M : K, !transpose_a}, {b, transpose_b ? K : N, transpose_b}, c, N, K, accumulate};
  const std::int64_t thread_bytes = block_bytes(Engine::kBlocks, M, N, K, product.kHoldsSums);
  const std::int64_t row_squares = (M + Engine::kRows - 1) / Engine::kRows;
  const std::int64_t column_squares = (N + Engine::kColumns - 1) / Engine::kColumns;
  const int threads = omp_get_max_threads();
  const int rows = grid_rows(row_squares, column_squares, Engine::kRows, Engine::kColumns, Engine::kPacking, threads);
  const int columns = threads / rows;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int part = 0; part < threads; ++part) {
    const std::int64_t i = part / columns, j = part % columns;
    const Rectangle rectangle{i * row_squares / rows * Engine::kRows,
                              std::min(M, (i + 1) * row_squares / rows * Engine::kRows),
                              j * column_squares / columns * Engine::kColumns,
                              std::min(N, (j + 1) * column_squares / columns * Engine::kColumns)};
    if (rectangle.row >= rectangle.row_end || rectangle.column >= rectangle.column_end) continue;
    Engine::begin_thread();
    product.run(rectangle, static_cast<std::byte*>(workspace) + part * thread_bytes);
    Engine::end_thread();
  }
}

}  // namespace ithaca::cpu

// Sums over whole arrays, over rows, and over any set of dimensions; the same for any number of threads.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ithaca::cpu {

// Sums over rows are taken in at most 64 blocks, so that their order does not depend on the threads.
constexpr std::int64_t row_blocks(std::int64_t rows) { return rows < 64 * 8 ? (rows + 7) / 8 : 64; }
constexpr std::int64_t first_row(std::int64_t block, std::int64_t rows) {
  return block * rows / (row_blocks(rows) > 0 ? row_blocks(rows) : 1);
}

// out[c] = sum over blocks of partial[block, c], or out[c] += that.
void add_blocks(const float* partial, float* out, std::int64_t blocks, std::int64_t columns,
                bool accumulate = false);

constexpr std::size_t sum_squares_workspace_bytes() { return 256 * sizeof(double); }

// out[0] = sum of x[i]^2 over n elements, accumulated in double; out[0] += that if `accumulate`.
template <typename T>
void sum_squares(const T* x, float* out, std::int64_t n, void* workspace, bool accumulate = false);

constexpr std::size_t sum_rows_workspace_bytes(std::int64_t rows, std::int64_t columns) {
  return static_cast<std::size_t>((row_blocks(rows) + 1) * columns) * sizeof(float);
}

// out[c] = sum over r of x[r, c]: the gradient of a bias. O is float, or T.
template <typename T, typename O>
void sum_rows(const T* x, O* out, std::int64_t rows, std::int64_t columns, void* workspace);

// Sums x, of shape dims[rank], over the dimensions whose bit is set in `reduced` (bit i = dimension i).
// out has the other dimensions, in order. rank <= 8. Accumulates in double.
template <typename T, typename O>
void reduce_sum(const T* x, const std::int64_t* dims, int rank, unsigned reduced, O* out);

}  // namespace ithaca::cpu

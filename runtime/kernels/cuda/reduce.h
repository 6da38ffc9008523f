// Sums over whole arrays, over rows, over any set of dimensions and over ranks; the same on every device.
#pragma once

#include <cstddef>
#include <cstdint>

#include "stream.h"

namespace ithaca::cuda {

// Sums over rows are taken in blocks, and the blocks are then added in order. 512 are several for each multiprocessor
// of the largest GPUs; fewer where a block would have under four rows.
constexpr std::int64_t row_blocks(std::int64_t rows) { return rows < 512 * 4 ? (rows + 3) / 4 : 512; }

// out[c] = sum over blocks of partial[block, c]. O is float or bf16.
template <typename O>
void add_blocks(const float* partial, O* out, std::int64_t blocks, std::int64_t columns, cudaStream_t stream);

// One double for each of at most 1024 chunks.
constexpr std::size_t sum_squares_workspace_bytes() { return 1024 * sizeof(double); }

// out[0] = sum of x[i]^2 over n elements: f32 over runs of 64 elements, double across them.
template <typename T>
void sum_squares(const T* x, float* out, std::int64_t n, void* workspace, cudaStream_t stream);

constexpr std::size_t sum_rows_workspace_bytes(std::int64_t rows, std::int64_t columns) {
  return static_cast<std::size_t>(row_blocks(rows) * columns) * sizeof(float);
}

// out[c] = sum over r of x[r, c]: the gradient of a bias. O is float, or T.
template <typename T, typename O>
void sum_rows(const T* x, O* out, std::int64_t rows, std::int64_t columns, void* workspace, cudaStream_t stream);

// Sums x, of shape dims[rank], over the dimensions whose bit is set in `reduced` (bit i = dimension i). out has the
// other dimensions, in order. rank <= 8; dims is read before the call returns. Accumulates in double.
template <typename T, typename O>
void reduce_sum(const T* x, const std::int64_t* dims, int rank, unsigned reduced, O* out, cudaStream_t stream);

}  // namespace ithaca::cuda

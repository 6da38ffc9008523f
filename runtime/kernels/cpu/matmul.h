// Matrix products, by the best engine that the CPU has (product.h).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "ithaca/dtype.h"

namespace ithaca::cpu {

// How an engine cuts a product into blocks. Machines with narrower vectors have smaller squares.
struct Blocks {
  std::int64_t bytes;          // of a packed element
  std::int64_t unit;           // depths are a multiple of this
  std::int64_t rows, columns;  // of a square of C, at most
  std::int64_t deepest;        // along K, where C holds its own sums between blocks
  std::int64_t deepest_once;   // where C is bf16 and one block is enough
  std::int64_t deepest_kept;   // where C is bf16 and sums are kept between blocks, of sum_rows rows at a time
  std::int64_t sum_rows;
};
inline constexpr Blocks kFloatBlocks{4, 1, 16, 48, 384, 384, 384, 256};
inline constexpr Blocks kWideBlocks = kFloatBlocks;  // bf16 as f32
inline constexpr Blocks kPairBlocks{2, 2, 16, 48, 768, 768, 768, 256};
// Keeping sums costs AMX a quarter of its speed, which is worth a deep block.
inline constexpr Blocks kTileBlocks{2, 32, 32, 32, 768, 2048, 1024, 1024};
inline constexpr std::int64_t kBlockBytes = 1 << 20;  // of B's block, for the second-level cache

struct BlockSizes {
  std::int64_t depth, width;  // of B's block, at most
  bool keeps_sums;
};
constexpr BlockSizes block_sizes(const Blocks& blocks, std::int64_t K, bool holds_sums) {
  const bool keeps_sums = !holds_sums && K > blocks.deepest_once;
  const std::int64_t deepest = holds_sums ? blocks.deepest : keeps_sums ? blocks.deepest_kept : blocks.deepest_once;
  const std::int64_t count = (K + deepest - 1) / deepest;
  const std::int64_t depth = ((K + count - 1) / count + blocks.unit - 1) / blocks.unit * blocks.unit;
  return {depth, kBlockBytes / (depth * blocks.bytes), keeps_sums};
}

// What a thread needs: a block of B, a panel of A, and kept sums.
constexpr std::int64_t block_bytes(const Blocks& blocks, std::int64_t M, std::int64_t N, std::int64_t K,
                                   bool holds_sums) {
  const BlockSizes sizes = block_sizes(blocks, K, holds_sums);
  const std::int64_t width = std::min(sizes.width, N + blocks.columns);
  const std::int64_t sums = sizes.keeps_sums ? std::min(blocks.sum_rows, M + blocks.rows) * width * 4 : 0;
  return (sizes.depth * blocks.bytes * (width + blocks.rows) + sums + 63) / 64 * 64;
}

// Workspace, in bytes: the same on every machine, so that a plan made on one fits another. `threads` is
// omp_get_max_threads() of the thread that will call.
constexpr std::int64_t matmul_workspace_bytes(std::int64_t M, std::int64_t N, std::int64_t K, int threads, DType from,
                                              DType to) {
  const auto of = [&](const Blocks& blocks) { return block_bytes(blocks, M, N, K, to == DType::f32); };
  return threads * (from == DType::f32 ? of(kFloatBlocks) : std::max({of(kWideBlocks), of(kPairBlocks), of(kTileBlocks)}));
}

// c[M, N] = op(a) op(b), or c += that if `accumulate`. a is [M, K], or [K, M] if transpose_a; b is [K, N], or [N, K]
// if transpose_b. Sums are f32; O is float or T. An element of c has the same bits whatever M, N and threads are.
template <typename T, typename O>
void matmul(const T* a, const T* b, O* c, std::int64_t M, std::int64_t N, std::int64_t K, bool transpose_a,
            bool transpose_b, bool accumulate, void* workspace);

}  // namespace ithaca::cpu

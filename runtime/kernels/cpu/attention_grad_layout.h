// The scratch of one thread in attention's backward pass: a group of query blocks, and one tile of keys.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "attention.h"
#include "attention_tiles.h"

namespace ithaca::cpu {

inline constexpr std::size_t kGroupBytes = std::size_t{1} << 20;  // scratch of a group of query blocks, about

template <class Engine>
struct GradLayout {
  using Element = typename Engine::Element;
  static constexpr std::int64_t kQueries = Engine::kGradQueries;
  static constexpr std::int64_t kKeys = Engine::kGradKeys;

  std::int64_t depth, group, blocks;  // blocks of queries that meet a tile of keys together

  explicit GradLayout(const AttentionShape& shape)
      : depth(Engine::padded(shape.head_dim)), group(shape.heads / shape.kv_heads) {
    const auto fitting = static_cast<std::int64_t>(kGroupBytes / block_bytes());
    const std::int64_t all = (shape.sequence_q + kQueries - 1) / kQueries * group;
    blocks = std::max<std::int64_t>(1, std::min(std::max<std::int64_t>(2, fitting), all));
  }

  std::size_t operand_bytes() const { return padded_bytes(kQueries * depth, sizeof(Element)); }
  std::size_t sum_bytes() const { return padded_bytes(kQueries * depth, sizeof(float)); }
  std::size_t row_bytes() const { return padded_bytes(kQueries, sizeof(float)); }
  std::size_t block_bytes() const { return 4 * operand_bytes() + sum_bytes() + 4 * row_bytes(); }
  std::size_t keys_bytes() const { return padded_bytes(kKeys * depth, sizeof(Element)); }
  std::size_t keys_sum_bytes() const { return padded_bytes(kKeys * depth, sizeof(float)); }
  std::size_t scores_bytes() const { return padded_bytes(kKeys * kQueries, sizeof(float)); }
  std::size_t probabilities_bytes() const { return padded_bytes(kKeys * kQueries, sizeof(Element)); }
  std::size_t thread_bytes() const {
    return static_cast<std::size_t>(blocks) * block_bytes() + 3 * keys_bytes() + 2 * keys_sum_bytes() +
           2 * scores_bytes() + 3 * probabilities_bytes();
  }
};

// A block of queries of one head, ready for products.
template <typename Element>
struct Block {
  Element *query_columns, *query_rows, *out_columns, *out_rows;
  float* dq;  // [depth][query]
  float *lse, *delta;
  std::int32_t *first, *last;
};

template <typename Element>
struct Scratch {
  Element *keys, *values, *transposed_keys;
  float *dk, *dv;
  float *scores, *d_scores;
  Element *probabilities, *left, *right;
};

template <class Engine>
Block<typename Engine::Element> block_at(const GradLayout<Engine>& layout, std::byte* area, std::int64_t index) {
  using Element = typename Engine::Element;
  Cursor cursor(area + static_cast<std::size_t>(index) * layout.block_bytes());
  Block<Element> b;
  b.query_columns = cursor.take<Element>(layout.operand_bytes());
  b.query_rows = cursor.take<Element>(layout.operand_bytes());
  b.out_columns = cursor.take<Element>(layout.operand_bytes());
  b.out_rows = cursor.take<Element>(layout.operand_bytes());
  b.dq = cursor.take<float>(layout.sum_bytes());
  b.lse = cursor.take<float>(layout.row_bytes());
  b.delta = cursor.take<float>(layout.row_bytes());
  b.first = cursor.take<std::int32_t>(layout.row_bytes());
  b.last = cursor.take<std::int32_t>(layout.row_bytes());
  return b;
}

template <class Engine>
Scratch<typename Engine::Element> scratch_at(const GradLayout<Engine>& layout, std::byte* area) {
  using Element = typename Engine::Element;
  Cursor cursor(area + static_cast<std::size_t>(layout.blocks) * layout.block_bytes());
  Scratch<Element> s;
  s.keys = cursor.take<Element>(layout.keys_bytes());
  s.values = cursor.take<Element>(layout.keys_bytes());
  s.transposed_keys = cursor.take<Element>(layout.keys_bytes());
  s.dk = cursor.take<float>(layout.keys_sum_bytes());
  s.dv = cursor.take<float>(layout.keys_sum_bytes());
  s.scores = cursor.take<float>(layout.scores_bytes());
  s.d_scores = cursor.take<float>(layout.scores_bytes());
  s.probabilities = cursor.take<Element>(layout.probabilities_bytes());
  s.left = cursor.take<Element>(layout.probabilities_bytes());
  s.right = cursor.take<Element>(layout.probabilities_bytes());
  return s;
}

}  // namespace ithaca::cpu

// The forward pass of attention: a task is a block of queries of all heads that share one key head.
#include "attention.h"

#include <omp.h>

#include <cmath>

#include "attention_engine.h"
#include "attention_tiles.h"
#include "vector.h"

namespace ithaca::cpu {
namespace {

constexpr std::int64_t kBlockQueries = 384;  // queries times heads that share a tile of keys, about

// Where a running maximum starts: finite, so that a row without keys stays free of NaN.
constexpr float kLowest = -1e30f;

template <class Engine>
struct Layout {
  std::int64_t depth, group, block, panels;  // block: queries of a task; panels: of all its heads

  explicit Layout(const AttentionShape& shape)
      : depth(Engine::padded(shape.head_dim)), group(shape.heads / shape.kv_heads) {
    const std::int64_t wanted = std::max<std::int64_t>(1, kBlockQueries / Engine::kPanel / group);
    block = Engine::kPanel * std::min(wanted, round_up(shape.sequence_q, Engine::kPanel) / Engine::kPanel);
    panels = block / Engine::kPanel * group;
  }

  std::size_t queries_bytes() const {
    return padded_bytes(panels * Engine::kPanel * depth, sizeof(typename Engine::Element));
  }
  std::size_t tile_bytes() const { return padded_bytes(Engine::kKeys * depth, sizeof(typename Engine::Element)); }
  std::size_t scores_bytes() const { return padded_bytes(Engine::kKeys * Engine::kPanel, sizeof(float)); }
  std::size_t out_bytes() const { return padded_bytes(panels * Engine::kPanel * depth, sizeof(float)); }
  std::size_t row_bytes() const { return padded_bytes(panels * Engine::kPanel, sizeof(float)); }
  std::size_t thread_bytes() const {
    return queries_bytes() + 2 * tile_bytes() + 2 * scores_bytes() + out_bytes() + 4 * row_bytes();
  }

};

// Asks for rows [begin, end) of the next tile, `stride` apart: rows of one head are too far apart for the
// hardware to guess.
template <typename T>
void prefetch_rows(const T* from, std::int64_t stride, std::int64_t head_dim, std::int64_t begin, std::int64_t end) {
  for (std::int64_t r = begin; r < end; ++r)
    for (std::int64_t d = 0; d < head_dim; d += 64 / static_cast<std::int64_t>(sizeof(T)))
      __builtin_prefetch(from + r * stride + d, 0, 2);
}

// Applies softcap (then scores are in units of log 2) and hides what the queries of the panel don't see.
template <class Engine>
void cap_scores(float* scores, std::int64_t rows, const AttentionShape& shape) {
  const float inner = shape.scale / shape.softcap;
  const float outer = shape.softcap * kLog2e;
  for (std::int64_t i = 0; i < rows * Engine::kPanel; i += kLanes)
    store_vector(scores + i, outer * tanh(load_vector(scores + i) * inner));
}

template <class Engine>
void mask_scores(float* scores, std::int64_t rows, std::int64_t key, const std::int32_t* first,
                 const std::int32_t* last) {
  for (int lane = 0; lane < Engine::kPanel; lane += kLanes) {
    const IntVector from = load_vector(first + lane);
    const IntVector to = load_vector(last + lane);
    for (std::int64_t j = 0; j < rows; ++j) {
      const IntVector here = static_cast<std::int32_t>(key + j) - IntVector{};
      float* at = scores + j * Engine::kPanel + lane;
      store_vector(at, (here >= from) & (here <= to) ? load_vector(at) : broadcast(-INFINITY));
    }
  }
}

// The maximum only keeps the exponentials in range: it moves when one would exceed 2^kSlack, so that the output is
// seldom rescaled.
constexpr float kSlack = 8.0f;

// One tile of scores of one panel into the running maximum, sum and (rescaled) output; leaves probabilities.
template <class Engine>
void softmax_step(const float* scores, typename Engine::Element* probabilities, std::int64_t rows,
                  float unit, float* maximum, float* sum, float* out, std::int64_t depth) {
  constexpr int kVectors = Engine::kPanel / kLanes;
  Vector high[kVectors];
  for (int n = 0; n < kVectors; ++n) high[n] = load_vector(scores + n * kLanes);
  for (std::int64_t j = 1; j < rows; ++j)
    for (int n = 0; n < kVectors; ++n) high[n] = max(high[n], load_vector(scores + j * Engine::kPanel + n * kLanes));
  Vector total[kVectors];
  IntVector outgrown = {};
  for (int n = 0; n < kVectors; ++n) {
    high[n] = high[n] * unit;
    total[n] = load_vector(sum + n * kLanes);
    outgrown |= high[n] > load_vector(maximum + n * kLanes) + kSlack;
  }
  const bool moves = any(outgrown);
  for (int n = 0; n < kVectors; ++n) {
    const Vector before = load_vector(maximum + n * kLanes);
    if (!moves) {
      high[n] = before;
      continue;
    }
    high[n] = max(high[n], before);
    const Vector factor = exp2<Engine::kExpDegree>(before - high[n]);
    total[n] *= factor;
    store_vector(maximum + n * kLanes, high[n]);
    for (std::int64_t d = 0; d < depth; ++d) {
      float* at = out + d * Engine::kPanel + n * kLanes;
      store_vector(at, load_vector(at) * factor);
    }
  }
  for (std::int64_t j = 0; j < rows; j += 2)
    for (int n = 0; n < kVectors; ++n) {
      const float* at = scores + j * Engine::kPanel + n * kLanes;
      const Vector even = exp2<Engine::kExpDegree>(load_vector(at) * unit - high[n]);
      const Vector odd = exp2<Engine::kExpDegree>(load_vector(at + Engine::kPanel) * unit - high[n]);
      total[n] += even + odd;
      Engine::store_pair(probabilities, j, n * kLanes, even, odd);
    }
  for (int n = 0; n < kVectors; ++n) store_vector(sum + n * kLanes, total[n]);
}

template <class Engine, typename T>
void attend_block(const AttentionShape& shape, const Layout<Engine>& layout, const T* q, const T* k, const T* v,
                  const std::int32_t* segments, T* out, float* lse, std::int64_t sample, std::int64_t kv_head,
                  std::int64_t begin, void* scratch) {
  using Element = typename Engine::Element;
  constexpr std::int64_t kPanel = Engine::kPanel;
  const std::int64_t D = shape.head_dim, depth = layout.depth, group = layout.group;
  const std::int64_t q_stride = shape.heads * D, kv_stride = shape.kv_heads * D;
  Cursor cursor(scratch);
  auto* queries = cursor.take<Element>(layout.queries_bytes());
  auto* keys = cursor.take<Element>(layout.tile_bytes());
  auto* values = cursor.take<Element>(layout.tile_bytes());
  auto* scores = cursor.take<float>(layout.scores_bytes());
  auto* probabilities = cursor.take<Element>(layout.scores_bytes());
  auto* sums = cursor.take<float>(layout.out_bytes());
  auto* maximum = cursor.take<float>(layout.row_bytes());
  auto* sum = cursor.take<float>(layout.row_bytes());
  auto* first = cursor.take<std::int32_t>(layout.row_bytes());
  auto* last = cursor.take<std::int32_t>(layout.row_bytes());
  if constexpr (Engine::kInPlace) probabilities = reinterpret_cast<Element*>(scores);

  const std::int64_t count = std::min(layout.block, shape.sequence_q - begin);
  const std::int64_t used = round_up(count, kPanel);  // rows of the panels that have queries
  visible_keys(shape, segments == nullptr ? nullptr : segments + sample * shape.sequence_kv, begin, used, first, last);
  const T* q_base = q + ((sample * shape.sequence_q + begin) * shape.heads + kv_head * group) * D;
  // Panel (row, head) has queries begin + row .. of query head kv_head * group + head.
  for (std::int64_t row = 0; row < used; row += kPanel)
    for (std::int64_t head = 0; head < group; ++head) {
      const std::int64_t at = row * group + head * kPanel;
      Engine::pack_queries(q_base + row * q_stride + head * D, q_stride, std::min(kPanel, count - row), D,
                           queries + at * depth, depth);
    }
  std::fill_n(sums, used * group * depth, 0.0f);
  std::fill_n(maximum, used * group, kLowest);
  std::fill_n(sum, used * group, 0.0f);

  const float unit = shape.softcap > 0.0f ? 1.0f : shape.scale * kLog2e;
  const std::int64_t end = std::int64_t{last[used - 1]} + 1;
  for (std::int64_t key = first[0]; key < end; key += Engine::kKeys) {
    const std::int64_t keys_here = std::min(Engine::kKeys, end - key);
    const std::int64_t padded = round_up(keys_here, Engine::kKeyUnit);
    const std::int64_t from = (sample * shape.sequence_kv + key) * kv_stride + kv_head * D;
    Engine::pack_keys(k + from, kv_stride, keys_here, D, keys, padded, depth);
    Engine::pack_values(v + from, kv_stride, keys_here, D, values, padded, depth);
    const std::int64_t next = from + keys_here * kv_stride;
    const std::int64_t next_keys = std::clamp<std::int64_t>(end - key - keys_here, 0, Engine::kKeys);
    for (std::int64_t row = 0; row < used; row += kPanel) {
      const std::int64_t newest = last[row + kPanel - 1];
      if (newest < key || first[row] >= key + keys_here) continue;
      const std::int64_t rows = std::min(padded, round_up(newest + 1 - key, Engine::kKeyUnit));
      const bool whole = first[row + kPanel - 1] <= key && last[row] >= key + rows - 1;
      for (std::int64_t head = 0; head < group; ++head) {
        const std::int64_t at = row * group + head * kPanel;
        const std::int64_t done = at / kPanel * next_keys / layout.panels;
        const std::int64_t due = (at / kPanel + 1) * next_keys / layout.panels;
        prefetch_rows(k + next, kv_stride, D, done, due);
        prefetch_rows(v + next, kv_stride, D, done, due);
        Engine::scores(keys, queries + at * depth, scores, rows, depth);
        if (shape.softcap > 0.0f) cap_scores<Engine>(scores, rows, shape);
        if (!whole) mask_scores<Engine>(scores, rows, key, first + row, last + row);
        softmax_step<Engine>(scores, probabilities, rows, unit, maximum + at, sum + at, sums + at * depth, depth);
        Engine::accumulate(values, probabilities, sums + at * depth, rows, depth);
      }
    }
  }

  T* out_base = out + ((sample * shape.sequence_q + begin) * shape.heads + kv_head * group) * D;
  float* lse_base = lse + (sample * shape.sequence_q + begin) * shape.heads + kv_head * group;
  for (std::int64_t row = 0; row < used; row += kPanel)
    for (std::int64_t head = 0; head < group; ++head) {
      const std::int64_t at = row * group + head * kPanel;
      const std::int64_t rows = std::min(kPanel, count - row);
      float inverse[kPanel];
      for (std::int64_t i = 0; i < kPanel; ++i) inverse[i] = sum[at + i] == 0.0f ? 0.0f : 1.0f / sum[at + i];
      store_columns(sums + at * depth, kPanel, inverse, out_base + row * q_stride + head * D, q_stride, rows, D);
      for (std::int64_t i = 0; i < rows; ++i)
        lse_base[(row + i) * shape.heads + head] = (maximum[at + i] + std::log2(sum[at + i])) * kLn2;
    }
}

template <class Engine, typename T>
void attend(const AttentionShape& shape, const T* q, const T* k, const T* v, const std::int32_t* segments, T* out,
            float* lse, void* workspace) {
  const Layout<Engine> layout(shape);
  check_scratch(layout.thread_bytes(), attention_thread_bytes(shape));
  const std::int64_t blocks = (shape.sequence_q + layout.block - 1) / layout.block;
  const std::int64_t tasks = shape.batch * shape.kv_heads * blocks;
  auto* scratch = static_cast<std::byte*>(workspace);
#pragma omp parallel
  {
    Engine::begin_thread();
    void* mine = scratch + static_cast<std::size_t>(omp_get_thread_num()) * layout.thread_bytes();
    // Late blocks see the most keys: they go first, so that the threads finish together.
#pragma omp for schedule(dynamic)
    for (std::int64_t task = 0; task < tasks; ++task) {
      const std::int64_t block = blocks - 1 - task / (shape.batch * shape.kv_heads);
      const std::int64_t pair = task % (shape.batch * shape.kv_heads);
      attend_block<Engine, T>(shape, layout, q, k, v, segments, out, lse, pair / shape.kv_heads,
                              pair % shape.kv_heads, block * layout.block, mine);
    }
    Engine::end_thread();
  }
}

}  // namespace

template <typename T>
void attention(const AttentionShape& shape, const T* q, const T* k, const T* v, const std::int32_t* segments, T* out,
               float* lse, void* workspace) {
  check_shape(shape, segments);
  if (shape.batch == 0 || shape.sequence_q == 0) return;
  with_engine<T>([&]<class Engine>() { attend<Engine>(shape, q, k, v, segments, out, lse, workspace); });
}

template void attention(const AttentionShape&, const float*, const float*, const float*, const std::int32_t*, float*,
                        float*, void*);
template void attention(const AttentionShape&, const bf16*, const bf16*, const bf16*, const std::int32_t*, bf16*,
                        float*, void*);

}  // namespace ithaca::cpu

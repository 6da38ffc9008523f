// The backward pass of attention (Dao 2023, algorithm 2), without atomic additions.
//
// For one key head, queries are taken in groups of blocks that stay in the second-level cache; every tile of keys
// then meets all blocks of the group, its dK and dV in scratch, while dQ of the group accumulates beside it.
// A key head is the work of one thread where there are enough of them. The ones left over, and all when sequences
// are long, are shared by all threads: each takes a range of the tiles and has a dQ of its own, summed in the end.
#include <omp.h>

#include <cmath>

#include "attention.h"
#include "attention_engine.h"
#include "attention_tiles.h"
#include "attention_vector.h"

namespace ithaca::cpu {
namespace {

constexpr std::size_t kGroupBytes = std::size_t{1} << 20;  // scratch of a group of query blocks, about
constexpr std::int64_t kLongSequence = 16384;              // from here on, threads share every key head

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

// How key heads are divided among threads.
struct Division {
  std::int64_t alone;  // this many are one thread's work each
  std::int64_t slots;  // key heads under way at a time

  Division(const AttentionShape& shape, int threads) {
    const std::int64_t pairs = shape.batch * shape.kv_heads;
    const bool share = threads > 1 && shape.sequence_kv >= kLongSequence;
    alone = share ? 0 : pairs / threads * threads;
    slots = alone > 0 ? threads : 1;
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

// From scores S and dP of a tile to P and dS, in the layouts that the next products read.
template <class Engine, bool Masked, bool Capped>
void differentiate_softmax(const AttentionShape& shape, const Block<typename Engine::Element>& block,
                           const Scratch<typename Engine::Element>& s, std::int64_t key, std::int64_t rows) {
  constexpr std::int64_t kQueries = Engine::kGradQueries;
  const float unit = shape.scale * kLog2e;
  const float inner = Capped ? shape.scale / shape.softcap : 0.0f;
  const float outer = Capped ? shape.softcap * kLog2e : 0.0f;
  for (std::int64_t j = 0; j < rows; j += 2)
    for (int lane = 0; lane < kQueries; lane += 2 * kLanes) {
      Vector p[2][2], d[2][2];
#pragma GCC unroll 2
      for (int n = 0; n < 2; ++n) {
        const int at = lane + n * kLanes;
        const Vector lse = load_vector(block.lse + at);
        const Vector delta = load_vector(block.delta + at);
#pragma GCC unroll 2
        for (int i = 0; i < 2; ++i) {
          const Vector score = load_vector(s.scores + (j + i) * kQueries + at);
          const Vector dp = load_vector(s.d_scores + (j + i) * kQueries + at);
          if constexpr (Capped) {
            const Vector t = tanh(score * inner);
            p[i][n] = exp2<Engine::kExpDegree>(t * outer - lse);
            d[i][n] = p[i][n] * (dp - delta) * (shape.scale * (1.0f - t * t));
          } else {
            p[i][n] = exp2<Engine::kExpDegree>(score * unit - lse);
            d[i][n] = p[i][n] * (dp - delta) * shape.scale;
          }
          if constexpr (Masked) {
            const IntVector here = static_cast<std::int32_t>(key + j + i) - IntVector{};
            const IntVector seen = (here >= load_vector(block.first + at)) & (here <= load_vector(block.last + at));
            p[i][n] = seen ? p[i][n] : Vector{};
            d[i][n] = seen ? d[i][n] : Vector{};
          }
        }
      }
      Engine::store_square(s.probabilities, nullptr, j, lane, p);
      Engine::store_square(s.left, s.right, j, lane, d);
    }
}

// The threads that work on one key head: all of them, or one.
struct Team {
  int index, size;

  void wait() const {
    if (size > 1) {
#pragma omp barrier
    }
  }
  std::int64_t begin(std::int64_t count) const { return index * count / size; }
  std::int64_t end(std::int64_t count) const { return (index + 1) * count / size; }
};

template <class Engine, typename T>
class KeyHeadGrad {
 public:
  using Element = typename Engine::Element;

  KeyHeadGrad(const AttentionShape& shape, const GradLayout<Engine>& layout, const T* q, const T* k, const T* v,
              const std::int32_t* segments, const T* out, const float* lse, const T* d_out, T* dq, T* dk, T* dv,
              std::int64_t pair, float* sums, std::byte* areas, std::size_t area_bytes, int first_area, Team team)
      : shape_(shape), layout_(layout), team_(team), areas_(areas), area_bytes_(area_bytes), first_area_(first_area) {
    const std::int64_t sample = pair / shape.kv_heads, kv_head = pair % shape.kv_heads;
    const std::int64_t query = (sample * shape.sequence_q * shape.heads + kv_head * layout.group) * shape.head_dim;
    const std::int64_t key = (sample * shape.sequence_kv * shape.kv_heads + kv_head) * shape.head_dim;
    q_ = q + query, out_ = out + query, d_out_ = d_out + query, dq_ = dq + query;
    k_ = k + key, v_ = v + key, dk_ = dk + key, dv_ = dv + key;
    lse_ = lse + sample * shape.sequence_q * shape.heads + kv_head * layout.group;
    segments_ = segments == nullptr ? nullptr : segments + sample * shape.sequence_q;
    if constexpr (sizeof(T) == sizeof(float)) {
      dk_sum_ = dk_, dv_sum_ = dv_, sum_stride_ = shape.kv_heads * shape.head_dim;
    } else {
      dk_sum_ = sums, dv_sum_ = sums + shape.sequence_kv * shape.head_dim, sum_stride_ = shape.head_dim;
    }
  }

  void run() {
    for (std::int64_t j = team_.begin(shape_.sequence_kv); j < team_.end(shape_.sequence_kv); ++j) {
      std::fill_n(dk_sum_ + j * sum_stride_, shape_.head_dim, 0.0f);
      std::fill_n(dv_sum_ + j * sum_stride_, shape_.head_dim, 0.0f);
    }
    const std::int64_t all =
        (shape_.sequence_q + Engine::kGradQueries - 1) / Engine::kGradQueries * layout_.group;
    for (std::int64_t begin = 0; begin < all; begin += layout_.blocks) {
      const std::int64_t count = std::min(layout_.blocks, all - begin);
      for (std::int64_t i = team_.index; i < count; i += team_.size) pack(begin + i, shared_block(i));
      team_.wait();
      meet_keys(count);
      team_.wait();
      for (std::int64_t i = team_.index; i < count; i += team_.size) write_dq(begin + i, i);
    }
    if constexpr (sizeof(T) != sizeof(float)) {
      team_.wait();
      for (std::int64_t j = team_.begin(shape_.sequence_kv); j < team_.end(shape_.sequence_kv); ++j)
        for (std::int64_t d = 0; d < shape_.head_dim; ++d) {
          dk_[j * kv_stride() + d] = from_float<T>(dk_sum_[j * sum_stride_ + d]);
          dv_[j * kv_stride() + d] = from_float<T>(dv_sum_[j * sum_stride_ + d]);
        }
    }
    team_.wait();
  }

 private:
  std::int64_t q_stride() const { return shape_.heads * shape_.head_dim; }
  std::int64_t kv_stride() const { return shape_.kv_heads * shape_.head_dim; }
  std::byte* area(int member) const { return areas_ + static_cast<std::size_t>(first_area_ + member) * area_bytes_; }
  Block<Element> shared_block(std::int64_t i) const { return block_at(layout_, area(0), i); }
  std::int64_t first_query(std::int64_t block) const { return block / layout_.group * Engine::kGradQueries; }

  void pack(std::int64_t index, const Block<Element>& block) {
    constexpr std::int64_t kQueries = Engine::kGradQueries;
    const std::int64_t D = shape_.head_dim, begin = first_query(index), head = index % layout_.group;
    const std::int64_t count = std::min(kQueries, shape_.sequence_q - begin);
    const std::int64_t at = begin * q_stride() + head * D;
    Engine::pack_grad_columns(q_ + at, q_stride(), count, D, block.query_columns, layout_.depth);
    Engine::pack_grad_rows(q_ + at, q_stride(), count, D, block.query_rows, layout_.depth);
    Engine::pack_grad_columns(d_out_ + at, q_stride(), count, D, block.out_columns, layout_.depth);
    Engine::pack_grad_rows(d_out_ + at, q_stride(), count, D, block.out_rows, layout_.depth);
    visible_keys(shape_, segments_, begin, kQueries, block.first, block.last);
    std::fill_n(block.lse, kQueries, 0.0f);
    std::fill_n(block.delta, kQueries, 0.0f);
    for (std::int64_t i = 0; i < count; ++i) {
      const T* o = out_ + at + i * q_stride();
      const T* g = d_out_ + at + i * q_stride();
      float dot = 0.0f;
#pragma omp simd reduction(+ : dot)
      for (std::int64_t d = 0; d < D; ++d) dot += float(o[d]) * float(g[d]);
      block.delta[i] = dot;
      block.lse[i] = lse_[(begin + i) * shape_.heads + head] * kLog2e;
    }
  }

  void meet_keys(std::int64_t count) {
    const std::int64_t D = shape_.head_dim, depth = layout_.depth;
    std::int64_t begin = shape_.sequence_kv, end = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      const Block<Element> block = shared_block(i);
      begin = std::min<std::int64_t>(begin, block.first[0]);
      end = std::max<std::int64_t>(end, std::int64_t{block.last[Engine::kGradQueries - 1]} + 1);
      std::fill_n(block_at(layout_, area(team_.index), i).dq, Engine::kGradQueries * depth, 0.0f);
    }
    const std::int64_t tiles = begin < end ? (end - begin + Engine::kGradKeys - 1) / Engine::kGradKeys : 0;
    const Scratch<Element> s = scratch_at(layout_, area(team_.index));
    for (std::int64_t tile = team_.begin(tiles); tile < team_.end(tiles); ++tile) {
      const std::int64_t key = begin + tile * Engine::kGradKeys;
      const std::int64_t keys = std::min(Engine::kGradKeys, end - key);
      const std::int64_t padded = round_up(keys, Engine::kKeyUnit);
      bool seen = false;
      for (std::int64_t i = 0; i < count; ++i) seen |= sees(shared_block(i), key, keys);
      if (!seen) continue;
      const std::int64_t at = key * kv_stride();
      Engine::pack_keys(k_ + at, kv_stride(), keys, D, s.keys, padded, depth);
      Engine::pack_keys(v_ + at, kv_stride(), keys, D, s.values, padded, depth);
      Engine::pack_transposed_keys(k_ + at, kv_stride(), keys, D, s.transposed_keys, padded, depth);
      read_sums(key, keys, padded, s);
      for (std::int64_t i = 0; i < count; ++i) meet_tile(shared_block(i), i, s, key, keys, padded);
      for (std::int64_t j = 0; j < keys; ++j) {
        std::copy_n(s.dk + j * depth, D, dk_sum_ + (key + j) * sum_stride_);
        std::copy_n(s.dv + j * depth, D, dv_sum_ + (key + j) * sum_stride_);
      }
    }
  }

  static bool sees(const Block<Element>& block, std::int64_t key, std::int64_t keys) {
    return block.last[Engine::kGradQueries - 1] >= key && block.first[0] < key + keys;
  }

  void read_sums(std::int64_t key, std::int64_t keys, std::int64_t padded, const Scratch<Element>& s) {
    const std::int64_t D = shape_.head_dim, depth = layout_.depth;
    for (std::int64_t j = 0; j < keys; ++j) {
      std::copy_n(dk_sum_ + (key + j) * sum_stride_, D, s.dk + j * depth);
      std::copy_n(dv_sum_ + (key + j) * sum_stride_, D, s.dv + j * depth);
      std::fill(s.dk + j * depth + D, s.dk + (j + 1) * depth, 0.0f);
      std::fill(s.dv + j * depth + D, s.dv + (j + 1) * depth, 0.0f);
    }
    std::fill(s.dk + keys * depth, s.dk + padded * depth, 0.0f);
    std::fill(s.dv + keys * depth, s.dv + padded * depth, 0.0f);
  }

  void meet_tile(const Block<Element>& block, std::int64_t index, const Scratch<Element>& s, std::int64_t key,
                 std::int64_t keys, std::int64_t padded) {
    if (!sees(block, key, keys)) return;
    constexpr std::int64_t kLast = Engine::kGradQueries - 1;
    const std::int64_t depth = layout_.depth;
    const std::int64_t rows = std::min(padded, round_up(block.last[kLast] + 1 - key, Engine::kKeyUnit));
    const bool whole = block.first[kLast] <= key && block.last[0] >= key + rows - 1;
    Engine::grad_scores(s.keys, block.query_columns, s.scores, rows, depth);
    Engine::grad_scores(s.values, block.out_columns, s.d_scores, rows, depth);
    if (shape_.softcap > 0.0f)
      differentiate_softmax<Engine, true, true>(shape_, block, s, key, rows);
    else if (whole)
      differentiate_softmax<Engine, false, false>(shape_, block, s, key, rows);
    else
      differentiate_softmax<Engine, true, false>(shape_, block, s, key, rows);
    Engine::grad_keys(s.probabilities, block.out_rows, s.dv, rows, depth);
    Engine::grad_keys(s.left, block.query_rows, s.dk, rows, depth);
    float* dq = block_at(layout_, area(team_.index), index).dq;
    Engine::grad_queries(s.keys, s.transposed_keys, s.left, s.right, dq, rows, depth);
  }

  void write_dq(std::int64_t index, std::int64_t slot) {
    constexpr std::int64_t kQueries = Engine::kGradQueries;
    const std::int64_t D = shape_.head_dim, begin = first_query(index), head = index % layout_.group;
    float* sum = block_at(layout_, area(0), slot).dq;
    for (int member = 1; member < team_.size; ++member) {
      const float* other = block_at(layout_, area(member), slot).dq;
      for (std::int64_t i = 0; i < kQueries * layout_.depth; ++i) sum[i] += other[i];
    }
    const std::int64_t count = std::min(kQueries, shape_.sequence_q - begin);
    float one[kQueries];
    std::fill_n(one, kQueries, 1.0f);
    store_columns(sum, kQueries, one, dq_ + begin * q_stride() + head * D, q_stride(), count, D);
  }

  const AttentionShape& shape_;
  const GradLayout<Engine>& layout_;
  Team team_;
  std::byte* areas_;
  std::size_t area_bytes_;
  int first_area_;
  const T *q_, *out_, *d_out_, *k_, *v_;
  T *dq_, *dk_, *dv_;
  const float* lse_;
  const std::int32_t* segments_;
  float *dk_sum_, *dv_sum_;
  std::int64_t sum_stride_;
};

std::size_t slot_bytes(const AttentionShape& shape) {
  return padded_bytes(2 * shape.sequence_kv * shape.head_dim, sizeof(float));
}

template <class Engine, typename T>
void attend_grad(const AttentionShape& shape, const T* q, const T* k, const T* v, const std::int32_t* segments,
                 const T* out, const float* lse, const T* d_out, T* dq, T* dk, T* dv, void* workspace) {
  const GradLayout<Engine> layout(shape);
  const int threads = omp_get_max_threads();
  const Division division(shape, threads);
  const std::size_t area_bytes = layout.thread_bytes();
  auto* areas = static_cast<std::byte*>(workspace);
  std::byte* slots = areas + static_cast<std::size_t>(threads) * area_bytes;
  const std::int64_t pairs = shape.batch * shape.kv_heads;
#pragma omp parallel num_threads(threads)
  {
    Engine::begin_thread();
    const int thread = omp_get_thread_num();
    const auto work = [&](std::int64_t pair, int slot, int first_area, Team team) {
      auto* sums = reinterpret_cast<float*>(slots + static_cast<std::size_t>(slot) * slot_bytes(shape));
      KeyHeadGrad<Engine, T>(shape, layout, q, k, v, segments, out, lse, d_out, dq, dk, dv, pair, sums, areas,
                             area_bytes, first_area, team)
          .run();
    };
#pragma omp for schedule(dynamic)
    for (std::int64_t pair = 0; pair < division.alone; ++pair) work(pair, thread, thread, Team{0, 1});
    for (std::int64_t pair = division.alone; pair < pairs; ++pair) 
      work(pair, 0, 0, Team{thread, omp_get_num_threads()});
    Engine::end_thread();
  }
}

}  // namespace

std::size_t attention_grad_workspace_bytes(const AttentionShape& shape, int threads, DType dtype) {
  std::size_t thread_bytes = 0;
  with_engine(dtype, [&]<class Engine>() { thread_bytes = GradLayout<Engine>(shape).thread_bytes(); });
  const auto slots = dtype == DType::f32 ? 0 : static_cast<std::size_t>(Division(shape, threads).slots);
  return static_cast<std::size_t>(threads) * thread_bytes + slots * slot_bytes(shape);
}

template <typename T>
void attention_grad(const AttentionShape& shape, const T* q, const T* k, const T* v, const std::int32_t* segments,
                    const T* out, const float* lse, const T* d_out, T* dq, T* dk, T* dv, void* workspace) {
  check_shape(shape, segments);
  if (shape.batch == 0 || shape.sequence_q == 0) return;
  with_engine<T>([&]<class Engine>() {
    attend_grad<Engine>(shape, q, k, v, segments, out, lse, d_out, dq, dk, dv, workspace);
  });
}

#define ITHACA_INSTANTIATE(T)                                                                                     \
  template void attention_grad(const AttentionShape&, const T*, const T*, const T*, const std::int32_t*, const T*, \
                               const float*, const T*, T*, T*, T*, void*);
ITHACA_INSTANTIATE(float)
ITHACA_INSTANTIATE(bf16)
#undef ITHACA_INSTANTIATE

}  // namespace ithaca::cpu

// The backward pass of attention (Dao 2023, algorithm 2), without atomic additions.
//
// For one key head, queries are taken in groups of blocks that stay in the second-level cache; every tile of keys
// then meets all blocks of the group, its dK and dV in scratch, while dQ of the group accumulates beside it.
//
// A key head is the work of one thread where there are enough of them. Those left over are shared by all threads,
// each with a range of the queries and a dK and dV of its own, summed in the end. Where sequences are long that
// would take too much memory: there the threads share every group, each with a range of its tiles and a dQ of its
// own.
#include <omp.h>

#include <cmath>

#include "attention.h"
#include "attention_engine.h"
#include "attention_grad_layout.h"
#include "attention_tiles.h"
#include "vector.h"

namespace ithaca::cpu {
namespace {

// How key heads are divided among threads; attention_grad_slots() counts accordingly.
struct Division {
  std::int64_t alone;  // this many are one thread's work each; the others are shared,
  bool by_queries;     // by ranges of queries, or else by ranges of keys

  Division(const AttentionShape& shape, int threads) {
    const std::int64_t pairs = shape.batch * shape.kv_heads;
    const bool is_long = threads > 1 && shape.sequence_kv >= kLongSequence;
    alone = is_long ? 0 : pairs / threads * threads;
    by_queries = !is_long && alone < pairs;
  }
};

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

template <typename T>
struct Arrays {
  const T *q, *k, *v;
  const std::int32_t* segments;
  const T* out;
  const float* lse;
  const T* d_out;
  T *dq, *dk, *dv;
};

// Where dK and dV of one key head are summed: rows of head_dim, `stride` apart.
struct KeySums {
  float *dk, *dv;
  std::int64_t stride;
};

template <class Engine, typename T>
class KeyHeadGrad {
 public:
  using Element = typename Engine::Element;

  // `areas`: the scratch of the team's members, area_bytes each.
  KeyHeadGrad(const AttentionShape& shape, const GradLayout<Engine>& layout, const Arrays<T>& arrays,
              std::int64_t pair, KeySums sums, std::byte* areas, Team team)
      : shape_(shape), layout_(layout), sums_(sums), team_(team), areas_(areas), area_bytes_(layout.thread_bytes()) {
    const std::int64_t sample = pair / shape.kv_heads, kv_head = pair % shape.kv_heads;
    const std::int64_t query = (sample * shape.sequence_q * shape.heads + kv_head * layout.group) * shape.head_dim;
    const std::int64_t key = (sample * shape.sequence_kv * shape.kv_heads + kv_head) * shape.head_dim;
    q_ = arrays.q + query, out_ = arrays.out + query, d_out_ = arrays.d_out + query, dq_ = arrays.dq + query;
    k_ = arrays.k + key, v_ = arrays.v + key;
    lse_ = arrays.lse + sample * shape.sequence_q * shape.heads + kv_head * layout.group;
    segments_ = arrays.segments == nullptr ? nullptr : arrays.segments + sample * shape.sequence_kv;
  }

  std::int64_t blocks() const {
    return (shape_.sequence_q + Engine::kGradQueries - 1) / Engine::kGradQueries * layout_.group;
  }

  // The first block of a part, when blocks are parted so that each part sees about as many keys.
  std::int64_t part_begin(std::int64_t part, std::int64_t parts) const {
    constexpr std::int64_t kQueries = Engine::kGradQueries;
    const auto seen = [&](std::int64_t block) {
      std::int32_t first[kQueries], last[kQueries];
      visible_keys(shape_, segments_, first_query(block), kQueries, first, last);
      return std::max<std::int64_t>(0, std::int64_t{last[kQueries - 1]} - first[0]) + 1;
    };
    std::int64_t total = 0, before = 0, block = 0;
    for (std::int64_t i = 0; i < blocks(); i += layout_.group) total += seen(i) * layout_.group;
    for (; block < blocks() && before * parts < total * part; ++block) before += seen(block);
    return block;
  }

  // Writes dq of blocks [begin, end), and adds what they give to dK and dV to the sums, zeroed first.
  void run(std::int64_t begin, std::int64_t end) {
    for (std::int64_t j = team_.begin(shape_.sequence_kv); j < team_.end(shape_.sequence_kv); ++j) {
      std::fill_n(sums_.dk + j * sums_.stride, shape_.head_dim, 0.0f);
      std::fill_n(sums_.dv + j * sums_.stride, shape_.head_dim, 0.0f);
    }
    for (; begin < end; begin += layout_.blocks) {
      const std::int64_t count = std::min(layout_.blocks, end - begin);
      for (std::int64_t i = team_.index; i < count; i += team_.size) pack(begin + i, shared_block(i));
      team_.wait();
      meet_keys(count);
      team_.wait();
      for (std::int64_t i = team_.index; i < count; i += team_.size) write_dq(begin + i, i);
    }
    team_.wait();
  }

 private:
  std::int64_t q_stride() const { return shape_.heads * shape_.head_dim; }
  std::int64_t kv_stride() const { return shape_.kv_heads * shape_.head_dim; }
  std::byte* area(int member) const { return areas_ + static_cast<std::size_t>(member) * area_bytes_; }
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
        std::copy_n(s.dk + j * depth, D, sums_.dk + (key + j) * sums_.stride);
        std::copy_n(s.dv + j * depth, D, sums_.dv + (key + j) * sums_.stride);
      }
    }
  }

  static bool sees(const Block<Element>& block, std::int64_t key, std::int64_t keys) {
    return block.last[Engine::kGradQueries - 1] >= key && block.first[0] < key + keys;
  }

  void read_sums(std::int64_t key, std::int64_t keys, std::int64_t padded, const Scratch<Element>& s) {
    const std::int64_t D = shape_.head_dim, depth = layout_.depth;
    for (std::int64_t j = 0; j < keys; ++j) {
      std::copy_n(sums_.dk + (key + j) * sums_.stride, D, s.dk + j * depth);
      std::copy_n(sums_.dv + (key + j) * sums_.stride, D, s.dv + j * depth);
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
  KeySums sums_;
  Team team_;
  std::byte* areas_;
  std::size_t area_bytes_;
  const T *q_, *out_, *d_out_, *k_, *v_;
  T* dq_;
  const float* lse_;
  const std::int32_t* segments_;
};

// dk and dv of one key head from `count` slots, their rows divided among the team.
template <typename T>
void write_keys(const AttentionShape& shape, const std::byte* slots, int count, T* dk, T* dv, Team team) {
  const std::size_t slot_bytes = attention_grad_slot_bytes(shape);
  const std::int64_t D = shape.head_dim, stride = shape.kv_heads * D, row_end = team.end(shape.sequence_kv);
  for (std::int64_t j = team.begin(shape.sequence_kv); j < row_end; ++j)
    for (T* to : {dk, dv}) {
      float row[256];
      const std::int64_t at = (to == dv ? shape.sequence_kv * D : 0) + j * D;
      std::fill_n(row, D, 0.0f);
      for (int slot = 0; slot < count; ++slot) {
        const auto* sum = reinterpret_cast<const float*>(slots + static_cast<std::size_t>(slot) * slot_bytes);
        for (std::int64_t d = 0; d < D; ++d) row[d] += sum[at + d];
      }
      for (std::int64_t d = 0; d < D; ++d) to[j * stride + d] = from_float<T>(row[d]);
    }
}

template <class Engine, typename T>
void attend_grad(const AttentionShape& shape, const Arrays<T>& arrays, void* workspace) {
  const GradLayout<Engine> layout(shape);
  const int threads = omp_get_max_threads();
  constexpr DType dtype = dtype_of<T>;
  const Division division(shape, threads);
  check_scratch(layout.thread_bytes(), attention_grad_thread_bytes(shape));
  auto* areas = static_cast<std::byte*>(workspace);
  std::byte* slots = areas + static_cast<std::size_t>(threads) * layout.thread_bytes();
  const std::size_t slot_bytes = attention_grad_slot_bytes(shape);
  const auto slot = [&](int index) { return slots + static_cast<std::size_t>(index) * slot_bytes; };
  const auto slot_sums = [&](int index) {
    auto* dk = reinterpret_cast<float*>(slot(index));
    return KeySums{dk, dk + shape.sequence_kv * shape.head_dim, shape.head_dim};
  };
  const auto key_offset = [&](std::int64_t pair) {
    return (pair / shape.kv_heads * shape.sequence_kv * shape.kv_heads + pair % shape.kv_heads) * shape.head_dim;
  };
#pragma omp parallel num_threads(threads)
  {
    Engine::begin_thread();
    const int thread = omp_get_thread_num();
    // f32 is summed where the result belongs, bf16 in slot `index`.
    const auto whole = [&](std::int64_t pair, int index, std::byte* area, Team team) {
      T *dk = arrays.dk + key_offset(pair), *dv = arrays.dv + key_offset(pair);
      KeySums sums;
      if constexpr (dtype == DType::f32)
        sums = {dk, dv, shape.kv_heads * shape.head_dim};
      else
        sums = slot_sums(index);
      KeyHeadGrad<Engine, T> grad(shape, layout, arrays, pair, sums, area, team);
      grad.run(0, grad.blocks());
      if constexpr (dtype != DType::f32) {
        write_keys(shape, slot(index), 1, dk, dv, team);
        team.wait();
      }
    };
    std::byte* mine = areas + static_cast<std::size_t>(thread) * layout.thread_bytes();
#pragma omp for schedule(dynamic)
    for (std::int64_t pair = 0; pair < division.alone; ++pair) whole(pair, thread, mine, Team{0, 1});
    const Team all{thread, omp_get_num_threads()};
    for (std::int64_t pair = division.alone; pair < shape.batch * shape.kv_heads; ++pair) {
      if (!division.by_queries) {
        whole(pair, 0, areas, all);
        continue;
      }
      KeyHeadGrad<Engine, T> grad(shape, layout, arrays, pair, slot_sums(thread), mine, Team{0, 1});
      grad.run(grad.part_begin(all.index, all.size), grad.part_begin(all.index + 1, all.size));
      all.wait();
      write_keys(shape, slots, all.size, arrays.dk + key_offset(pair), arrays.dv + key_offset(pair), all);
      all.wait();
    }
    Engine::end_thread();
  }
}

}  // namespace

template <typename T>
void attention_grad(const AttentionShape& shape, const T* q, const T* k, const T* v, const std::int32_t* segments,
                    const T* out, const float* lse, const T* d_out, T* dq, T* dk, T* dv, void* workspace) {
  check_shape(shape, segments);
  if (shape.batch == 0 || shape.sequence_q == 0) return;
  with_engine<T>([&]<class Engine>() {
    attend_grad<Engine>(shape, Arrays<T>{q, k, v, segments, out, lse, d_out, dq, dk, dv}, workspace);
  });
}

#define ITHACA_INSTANTIATE(T)                                                                                     \
  template void attention_grad(const AttentionShape&, const T*, const T*, const T*, const std::int32_t*, const T*, \
                               const float*, const T*, T*, T*, T*, void*);
ITHACA_INSTANTIATE(float)
ITHACA_INSTANTIATE(bf16)
#undef ITHACA_INSTANTIATE

}  // namespace ithaca::cpu

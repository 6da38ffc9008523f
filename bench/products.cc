// Times our matrix products beside oneDNN's, in turn, on the shapes of a Llama's step; prints a line of JSON for each.
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <dnnl.hpp>
#include <type_traits>
#include <vector>

#include "kernels/cpu/matmul.h"

namespace {

using ithaca::bf16;
using Tag = dnnl::memory::format_tag;

struct Shape {
  std::int64_t M, N, K;
  bool transpose_a, transpose_b;
};

template <typename T>
constexpr auto kType = std::is_same_v<T, float> ? dnnl::memory::data_type::f32 : dnnl::memory::data_type::bf16;

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// oneDNN's primitive for a shape, which is chosen once.
template <typename T, typename O>
class Peer {
 public:
  Peer(const Shape& s, T* a, T* b, O* c) : stream_(engine_) {
    const dnnl::memory::desc left({s.M, s.K}, kType<T>, s.transpose_a ? Tag::ba : Tag::ab);
    const dnnl::memory::desc right({s.K, s.N}, kType<T>, s.transpose_b ? Tag::ba : Tag::ab);
    const dnnl::memory::desc to({s.M, s.N}, kType<O>, Tag::ab);
#if DNNL_VERSION_MAJOR >= 3
    const dnnl::matmul::primitive_desc description(engine_, left, right, to);
#else
    const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(left, right, to), engine_);
#endif
    product_ = dnnl::matmul(description);
    arguments_ = {{DNNL_ARG_SRC, dnnl::memory(left, engine_, a)},
                  {DNNL_ARG_WEIGHTS, dnnl::memory(right, engine_, b)},
                  {DNNL_ARG_DST, dnnl::memory(to, engine_, c)}};
  }

  void run() {
    product_.execute(stream_, arguments_);
    stream_.wait();
  }

 private:
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_;
  dnnl::matmul product_;
  std::unordered_map<int, dnnl::memory> arguments_;
};

template <typename Run>
double time_of(int times, const Run& run) {
  const double begin = seconds();
  for (int i = 0; i < times; ++i) run();
  return (seconds() - begin) / times;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

template <typename T, typename O>
void compare(const Shape& s, int rounds) {
  std::vector<T> a(s.M * s.K, ithaca::from_float<T>(0.5f)), b(s.K * s.N, ithaca::from_float<T>(0.25f));
  std::vector<O> ours(s.M * s.N), theirs(s.M * s.N);
  const std::int64_t bytes =
      ithaca::cpu::matmul_workspace_bytes(s.M, s.N, s.K, omp_get_max_threads(), ithaca::dtype_of<T>, ithaca::dtype_of<O>);
  void* workspace = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  Peer<T, O> peer(s, a.data(), b.data(), theirs.data());
  const auto own = [&] {
    ithaca::cpu::matmul(a.data(), b.data(), ours.data(), s.M, s.N, s.K, s.transpose_a, s.transpose_b, false, workspace);
  };
  const double flops = 2.0 * static_cast<double>(s.M * s.N) * static_cast<double>(s.K);
  const int times = std::max(1, static_cast<int>(3e9 / flops));
  own();
  peer.run();
  std::vector<double> own_times, peer_times;
  for (int round = 0; round < rounds; ++round) {
    own_times.push_back(time_of(times, own));
    peer_times.push_back(time_of(times, [&] { peer.run(); }));
  }
  std::free(workspace);
  std::printf("{\"from\":\"%s\",\"to\":\"%s\",\"M\":%ld,\"N\":%ld,\"K\":%ld,\"form\":\"%c%c\",\"ours\":%.1f,\"oneDNN\":%.1f}\n",
              ithaca::dtype_name(ithaca::dtype_of<T>), ithaca::dtype_name(ithaca::dtype_of<O>), static_cast<long>(s.M),
              static_cast<long>(s.N), static_cast<long>(s.K), s.transpose_a ? 'T' : 'N', s.transpose_b ? 'T' : 'N',
              flops / median(own_times) / 1e9, flops / median(peer_times) / 1e9);
  std::fflush(stdout);
}

}  // namespace

// Arguments: tokens, hidden size, intermediate size, vocabulary, rounds.
int main(int, char** arguments) {
  const auto number = [&](int i) { return std::atoll(arguments[i]); };
  const std::int64_t tokens = number(1), hidden = number(2), wide = number(3), vocabulary = number(4);
  const int rounds = static_cast<int>(number(5));
  const Shape forward[] = {{tokens, hidden, hidden, false, true},
                           {tokens, wide, hidden, false, true},
                           {tokens, hidden, wide, false, true},
                           {tokens / 8, vocabulary, hidden, false, true}};
  for (const Shape& s : forward) {
    const Shape values{s.M, s.K, s.N, false, false}, weights{s.N, s.K, s.M, true, false};
    compare<float, float>(s, rounds);
    compare<float, float>(values, rounds);
    compare<float, float>(weights, rounds);
    compare<bf16, bf16>(s, rounds);
    compare<bf16, bf16>(values, rounds);
    compare<bf16, float>(weights, rounds);
  }
}

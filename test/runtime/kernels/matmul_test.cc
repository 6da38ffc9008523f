// Matrix products in every orientation, with and without accumulation, in a workspace of exactly the promised size.
#include <omp.h>

#include <limits>

#include "check.h"
#include "kernels/cpu/bf16_products.h"
#include "kernels/cpu/matmul.h"

namespace ithaca::test {
namespace {

struct Size {
  std::int64_t M, N, K;
};

// Multiplies in a workspace full of NaN, with a wall behind it.
template <typename T, typename O>
void multiply(T* a, T* b, O* c, const Size& s, bool ta, bool tb, bool accumulate) {
  const std::int64_t bytes =
      cpu::matmul_workspace_bytes(s.M, s.N, s.K, omp_get_max_threads(), dtype_of<T>, dtype_of<O>);
  Array<float> workspace(bytes / 4 + 16, std::numeric_limits<float>::quiet_NaN());
  for (int i = 0; i < 16; ++i) workspace[bytes / 4 + i] = 7.0f;
  cpu::matmul(a, b, c, s.M, s.N, s.K, ta, tb, accumulate, workspace.data());
  for (int i = 0; i < 16; ++i)
    report(workspace[bytes / 4 + i] == 7.0f, "matmul leaves what lies behind its workspace alone");
}

template <typename T, typename O>
void products(const std::string& how) {
  const Size sizes[] = {{1, 1, 1},     {7, 1, 3},      {1, 33, 17},    {77, 96, 200},    {129, 65, 1003}, {70, 1100, 40},
                        {64, 96, 1600}, {530, 17, 2080}, {40, 300, 1030}, {1100, 48, 2100}, {3, 1500, 900}};
  for (const Size& s : sizes)
    for (int options = 0; options < 8; ++options) {
      if (s.K > 1000 && options % 3 != 0) continue;  // the reference is slow
      const bool ta = options & 1, tb = options & 2, accumulate = options & 4;
      auto a = Array<T>::noise(s.M * s.K, 1), b = Array<T>::noise(s.K * s.N, 2);
      auto c = Array<O>::noise(s.M * s.N, 4);
      std::vector<double> want(static_cast<std::size_t>(s.M * s.N));
      for (std::int64_t m = 0; m < s.M; ++m)
        for (std::int64_t n = 0; n < s.N; ++n) {
          double sum = accumulate ? c.at(m * s.N + n) : 0.0;
          for (std::int64_t k = 0; k < s.K; ++k)
            sum += a.at(ta ? k * s.M + m : m * s.K + k) * b.at(tb ? n * s.K + k : k * s.N + n);
          want[static_cast<std::size_t>(m * s.N + n)] = sum;
        }
      multiply(a.data(), b.data(), c.data(), s, ta, tb, accumulate);
      expect_close(c, want, 2 * rounding<O>() + 2e-6,
                   "matmul " + how + " " + std::to_string(s.M) + "x" + std::to_string(s.N) + "x" +
                       std::to_string(s.K) + " options " + std::to_string(options));
    }
}

// Rows multiplied a few at a time, with any number of threads, have the same bits as all at once.
template <typename T, typename O>
void split(const std::string& how) {
  const int threads = omp_get_max_threads();
  for (const Size& s : {Size{200, 130, 1000}, {90, 700, 2500}}) {
    auto a = Array<T>::noise(s.M * s.K, 1), b = Array<T>::noise(s.K * s.N, 2);
    Array<O> whole(s.M * s.N), parts(s.M * s.N);
    multiply(a.data(), b.data(), whole.data(), s, false, true, false);
    omp_set_num_threads(3 - threads);
    for (std::int64_t m = 0; m < s.M; m += 37) {
      const Size part{std::min<std::int64_t>(37, s.M - m), s.N, s.K};
      multiply(a.data() + m * s.K, b.data(), parts.data() + m * s.N, part, false, true, false);
    }
    omp_set_num_threads(threads);
    bool same = true;
    for (std::int64_t i = 0; i < s.M * s.N; ++i) same = same && whole.at(i) == parts.at(i);
    report(same, "matmul " + how + " has the same bits in parts");
  }
}

}  // namespace

void test_matmul() {
  products<float, float>("f32");
  split<float, float>("f32");
  for (const auto& [most, name] : {std::pair{cpu::Bf16Products::f32, "bf16 by conversion"},
                                  {cpu::Bf16Products::dot, "bf16 by pairs"},
                                  {cpu::Bf16Products::amx, "bf16 at best"}}) {
    cpu::allow_bf16_products(most);
    products<bf16, bf16>(name);
    products<bf16, float>(std::string(name) + " to f32");
    split<bf16, bf16>(name);
    split<bf16, float>(std::string(name) + " to f32");
  }
}

}  // namespace ithaca::test

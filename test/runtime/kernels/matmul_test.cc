// Matrix products in every orientation, with and without bias and accumulation.
#include "check.h"
#include "kernels/cpu/matmul.h"

namespace ithaca::test {
namespace {

template <typename T, typename O>
void products(const std::string& how) {
  struct Size {
    std::int64_t M, N, K;
  };
  const Size sizes[] = {{1, 1, 1}, {7, 1, 3}, {1, 33, 17}, {77, 96, 200}, {129, 65, 1003},
                        {70, 1100, 40}, {64, 96, 1600}, {530, 17, 2080}, {40, 300, 1030}};
  for (const Size& s : sizes)
    for (int options = 0; options < 16; ++options) {
      if (s.K > 1000 && options % 7 != 0) continue;  // the reference is slow
      const bool ta = options & 1, tb = options & 2, accumulate = options & 4, with_bias = options & 8;
      auto a = Array<T>::noise(s.M * s.K, 1), b = Array<T>::noise(s.K * s.N, 2), bias = Array<T>::noise(s.N, 3);
      auto c = Array<O>::noise(s.M * s.N, 4);
      std::vector<double> want(static_cast<std::size_t>(s.M * s.N));
      for (std::int64_t m = 0; m < s.M; ++m)
        for (std::int64_t n = 0; n < s.N; ++n) {
          double sum = accumulate ? c.at(m * s.N + n) : 0.0;
          if (with_bias) sum += bias.at(n);
          for (std::int64_t k = 0; k < s.K; ++k)
            sum += a.at(ta ? k * s.M + m : m * s.K + k) * b.at(tb ? n * s.K + k : k * s.N + n);
          want[static_cast<std::size_t>(m * s.N + n)] = sum;
        }
      cpu::matmul(a.data(), b.data(), c.data(), s.M, s.N, s.K, ta, tb, accumulate, with_bias ? bias.data() : nullptr);
      expect_close(c, want, 2 * rounding<O>() + 2e-6,
                   "matmul " + how + " " + std::to_string(s.M) + "x" + std::to_string(s.N) + "x" +
                       std::to_string(s.K) + " options " + std::to_string(options));
    }
}

}  // namespace

void test_matmul() {
  products<float, float>("f32");
  for (const auto& [most, name] : {std::pair{cpu::Bf16Products::f32, "bf16 by conversion"},
                                  {cpu::Bf16Products::dot, "bf16 by oneDNN"},
                                  {cpu::Bf16Products::amx, "bf16 at best"}}) {
    cpu::matmul_use(most);
    products<bf16, bf16>(name);
    products<bf16, float>(std::string(name) + " to f32");
  }
}

}  // namespace ithaca::test

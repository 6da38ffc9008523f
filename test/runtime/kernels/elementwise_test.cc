// The float functions against the C library in double, in units of the last place; casts and strided copies.
#include "kernels/cpu/elementwise.h"

#include <numeric>

#include "check.h"
#include "kernels/cpu/copy.h"

namespace ithaca::test {
namespace {

template <typename Ours, typename Exact>
void measure(const char* name, Ours ours, Exact exact, double low, double high, double ulps, double absolute = 0.0) {
  double worst = 0.0;
  double where = 0.0;
  for (int i = 0; i <= 200000; ++i) {
    const float x = static_cast<float>(low + (high - low) * i / 200000.0);
    const double want = exact(static_cast<double>(x));
    const float rounded = static_cast<float>(want);
    const double ulp = static_cast<double>(std::nextafter(std::fabs(rounded), INFINITY)) - std::fabs(double(rounded));
    const double error = std::max(0.0, std::fabs(double(ours(x)) - want) - absolute) / ulp;
    if (!(error <= worst)) worst = error, where = double(x);
  }
  if (std::getenv("VERBOSE") != nullptr) std::printf("  %-60s %.2f ulp at %g\n", name, worst, where);
  report(worst <= ulps, std::string(name) + ": " + std::to_string(worst) + " ulp at " + std::to_string(where));
}

double gelu(double x) { return 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0))); }
double gelu_tanh(double x) {
  return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
}
double silu(double x) { return x / (1.0 + std::exp(-x)); }
template <typename F>
auto slope(F f) {
  return [f](double x) { return (f(x + 1e-5) - f(x - 1e-5)) / 2e-5; };
}

void functions() {
  const auto d = [](auto f) { return [f](double x) { return f(x); }; };
  measure("exp", cpu::exp, d([](double x) { return std::exp(x); }), -87.0, 88.7, 2.0);
  measure("exp, denormal", cpu::exp, d([](double x) { return std::exp(x); }), -103.0, -87.0, 2.0);
  measure("log", cpu::log, d([](double x) { return std::log(x); }), 1e-3, 20.0, 2.0);
  measure("log, large", cpu::log, d([](double x) { return std::log(x); }), 1.0, 1e30, 2.0);
  measure("tanh", cpu::tanh, d([](double x) { return std::tanh(x); }), -10.0, 10.0, 3.0);
  measure("erf", cpu::erf, d([](double x) { return std::erf(x); }), -5.0, 5.0, 6.0);
  measure("sigmoid", cpu::sigmoid, d([](double x) { return 1.0 / (1.0 + std::exp(-x)); }), -80.0, 20.0, 4.0);
  measure("silu", cpu::silu, d(silu), -80.0, 20.0, 4.0);
  measure("gelu", cpu::gelu, d(gelu), -10.0, 10.0, 4.0, 1e-6);
  measure("gelu_tanh", cpu::gelu_tanh, d(gelu_tanh), -10.0, 10.0, 4.0, 1e-6);
  measure("silu_grad", cpu::silu_grad, slope(silu), -20.0, 20.0, 8.0, 1e-6);
  measure("gelu_grad", cpu::gelu_grad, slope(gelu), -10.0, 10.0, 8.0, 1e-6);
  measure("gelu_tanh_grad", cpu::gelu_tanh_grad, slope(gelu_tanh), -10.0, 10.0, 8.0, 1e-6);
  CHECK(cpu::exp(-INFINITY) == 0.0f && cpu::exp(-1000.0f) == 0.0f);
  CHECK(cpu::exp(INFINITY) == INFINITY && cpu::exp(1000.0f) == INFINITY && cpu::exp(0.0f) == 1.0f);
  CHECK(std::isnan(cpu::exp(NAN)) && std::isnan(cpu::log(NAN)) && std::isnan(cpu::tanh(NAN)));
  CHECK(std::isnan(cpu::erf(NAN)) && std::isnan(cpu::silu(NAN)) && std::isnan(cpu::relu(NAN)));
  CHECK(cpu::log(0.0f) == -INFINITY && std::isnan(cpu::log(-1.0f)) && cpu::log(INFINITY) == INFINITY);
  CHECK(std::fabs(cpu::log(1e-40f) - std::log(1e-40f)) < 1e-5f);
}

void casts() {
  CHECK(float(to_bf16(1.0f)) == 1.0f && to_bf16(1.0f + 1.0f / 256).bits == 0x3f80);
  CHECK(to_bf16(1.0f + 3.0f / 256).bits == 0x3f82);  // ties go to even
  CHECK(std::isnan(float(to_bf16(NAN))) && float(to_bf16(INFINITY)) == INFINITY);
  CHECK(float(to_bf16(3.4e38f)) == INFINITY);
  auto x = Array<float>::noise(1003, 1);
  Array<bf16> y(1003);
  Array<float> z(1003);
  cpu::cast(x.data(), y.data(), 1003);
  cpu::cast(y.data(), z.data(), 1003);
  double worst = 0.0;
  for (int i = 0; i < 1003; ++i) worst = std::max(worst, std::fabs(z.at(i) / x.at(i) - 1.0));
  CHECK(worst <= 1.0 / 256);
}

template <typename Element>
void copies() {
  struct Case {
    std::vector<std::int64_t> dims, from, to;
    std::int64_t source, target;
  };
  const std::vector<Case> cases = {
      {{}, {}, {}, 1, 1},
      {{5}, {1}, {1}, 5, 5},
      {{7, 9}, {1, 7}, {9, 1}, 63, 63},                                    // transpose
      {{2, 5, 3, 4}, {60, 4, 20, 1}, {60, 12, 4, 1}, 120, 120},            // [B, H, S, D] to [B, S, H, D]
      {{3, 70, 65}, {70 * 65, 1, 70}, {70 * 65, 65, 1}, 13650, 13650},     // batch of transposes
      {{4, 6}, {20, 1}, {6, 1}, 80, 24},                                   // slice
      {{4, 6}, {6, 1}, {20, 1}, 24, 80},                                   // into a concatenation
      {{4, 6}, {0, 1}, {6, 1}, 6, 24},                                     // broadcast
      {{300, 400}, {1, 300}, {400, 1}, 120000, 120000},
      {{200000}, {1}, {1}, 200000, 200000},
  };
  for (const Case& c : cases) {
    std::vector<Element> source(static_cast<std::size_t>(c.source));
    std::vector<Element> target(static_cast<std::size_t>(c.target), Element{77});
    for (std::size_t i = 0; i < source.size(); ++i) source[i] = static_cast<Element>(i * 31 + 5);
    std::vector<Element> want = target;
    const int rank = static_cast<int>(c.dims.size());
    const std::int64_t count = std::accumulate(c.dims.begin(), c.dims.end(), std::int64_t{1}, std::multiplies<>());
    for (std::int64_t n = 0; n < count; ++n) {
      std::int64_t rest = n, from = 0, to = 0;
      for (int d = rank - 1; d >= 0; --d) {
        const auto at = static_cast<std::size_t>(d);
        from += rest % c.dims[at] * c.from[at];
        to += rest % c.dims[at] * c.to[at];
        rest /= c.dims[at];
      }
      want[static_cast<std::size_t>(to)] = source[static_cast<std::size_t>(from)];
    }
    cpu::copy_strided(source.data(), c.from.data(), target.data(), c.to.data(), c.dims.data(), rank, sizeof(Element));
    CHECK(target == want);
  }
}

}  // namespace

void test_elementwise() {
  functions();
  casts();
  copies<std::uint8_t>();
  copies<std::uint16_t>();
  copies<std::uint32_t>();
  copies<std::uint64_t>();
}

}  // namespace ithaca::test

// Copies between layouts, constants, and the mathematics and loops of generated kernels.
#include <algorithm>
#include <numeric>

#include "kernel_check.h"
#include "kernels/cpu/copy.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cuda/copy.h"
#include "kernels/cuda/documents.h"
#include "kernels/cuda/elementwise.h"

namespace ithaca::test {
namespace {

// A copy of `dims` in row-major order from one that is stored with its dimensions in `order`, and back.
void copies(const std::vector<std::int64_t>& dims, const std::vector<int>& order, int element_bytes,
            std::int64_t from_aside) {
  const int rank = static_cast<int>(dims.size());
  std::int64_t n = 1;
  std::vector<std::int64_t> own(dims.size()), other(dims.size());
  for (int i = rank - 1; i >= 0; --i) own[std::size_t(i)] = n, n *= dims[std::size_t(i)];
  std::int64_t stride = 1;
  for (int i = rank - 1; i >= 0; --i) {
    const auto d = static_cast<std::size_t>(order[std::size_t(i)]);
    other[d] = stride;
    stride *= dims[d];
  }
  const auto bytes = static_cast<std::size_t>(n * element_bytes);
  const auto shift = static_cast<std::size_t>(from_aside * element_bytes);
  Array<std::uint8_t> from(static_cast<std::int64_t>(bytes + shift));
  for (std::int64_t i = 0; i < from.size(); ++i) from[i] = static_cast<std::uint8_t>(i * 37 + i / 251);
  Array<std::uint8_t> want(static_cast<std::int64_t>(bytes)), got(static_cast<std::int64_t>(bytes));
  for (const auto& [source, target] : {std::pair{other, own}, {own, other}}) {
    cpu::copy_strided(from.data() + shift, source.data(), want.data(), target.data(), dims.data(), rank, element_bytes);
    in_every_order("copy_strided",
                   [&] {
                     cuda::copy_strided(from.data() + shift, source.data(), got.data(), target.data(), dims.data(), rank,
                                        element_bytes, kNoStream);
                   },
                   got);
    report(bytes_of(got) == bytes_of(want), "copy_strided of rank " + std::to_string(rank) + " with elements of " +
                                                std::to_string(element_bytes) + " bytes");
  }
}

void random_copies() {
  std::mt19937 random(11);
  for (int round = 0; round < 60; ++round) {
    const int rank = 1 + static_cast<int>(random() % 6);
    std::vector<std::int64_t> dims;
    std::int64_t n = 1;
    for (int i = 0; i < rank; ++i) {
      const std::int64_t sizes[] = {1, 2, 3, 8, 16, 70};
      dims.push_back(n > 20000 ? 2 : sizes[random() % 6]);
      n *= dims.back();
    }
    std::vector<int> order(dims.size());
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random);
    copies(dims, order, 1 << (random() % 4), random() % 2);
  }
}

void broadcasts() {
  auto x = Array<float>::noise(24, 1);
  Array<float> want(24 * 15), got(24 * 15);
  const std::int64_t dims[] = {5, 24, 3}, from[] = {0, 1, 0}, to[] = {72, 3, 1};
  cpu::copy_strided(x.data(), from, want.data(), to, dims, 3, 4);
  cuda::copy_strided(x.data(), from, got.data(), to, dims, 3, 4, kNoStream);
  CHECK(bytes_of(got) == bytes_of(want));
  const std::int64_t none[] = {5, 0, 3};
  cuda::copy_strided(x.data(), from, got.data(), to, none, 3, 4, kNoStream);
  CHECK(bytes_of(got) == bytes_of(want));
  expect_error([&] { cuda::copy_strided(x.data(), from, got.data(), to, dims, 9, 4, kNoStream); }, "rank 9");
  expect_error([&] { cuda::copy_strided(x.data(), from, got.data(), to, dims, 3, 3, kNoStream); }, "3 bytes");
}

bool same(float a, float b) { return a == b; }
bool same(bf16 a, bf16 b) { return a.bits == b.bits; }
bool same(std::int32_t a, std::int32_t b) { return a == b; }

template <typename T>
void fills(T value) {
  for (const std::int64_t n : {1, 13, 1024, 5003})
    for (const std::int64_t aside : {0, 1}) {
      std::vector<T> x(std::size_t(n + 2), T{});
      cuda::fill(x.data() + aside, n, value, kNoStream);
      for (std::int64_t i = 0; i < n; ++i) CHECK(same(x[std::size_t(i + aside)], value));
      CHECK(same(x[std::size_t(n + aside)], T{}));
    }
}

// A loop as code generation prints it: out = silu(x0) * x1, x1 repeated over the rows, and a count beside it.
struct Loop {
  const bf16* in0;
  const float* in1;
  const std::int32_t* in2;
  bf16* out0;
  std::int32_t* out1;

  template <int N>
  __device__ void run(std::int64_t i, std::int64_t, std::int64_t column) const {
    const auto x0 = cuda::load<N>(in0 + i);
    const auto x1 = cuda::load<N>(in1 + column);
    const auto x2 = cuda::load<N>(in2 + i);
    cuda::Pack<float, N> y0;
    cuda::Pack<std::int32_t, N> y1;
    for (int k = 0; k < N; ++k) y0[k] = cuda::silu(x0[k]) * x1[k], y1[k] = x2[k] + 1;
    cuda::store<N>(out0 + i, y0);
    cuda::store<N>(out1 + i, y1);
  }
};

void loops(std::int64_t rows, std::int64_t columns, bool wide) {
  const std::int64_t n = rows * columns;
  auto x0 = Array<bf16>::noise(n, 1);
  auto x1 = Array<float>::noise(columns, 2);
  Array<std::int32_t> x2(n, 41.0f), y1(n);
  Array<bf16> y0(n);
  in_every_order("run_loop",
                 [&] {
                   const Loop loop{x0.data(), x1.data(), x2.data(), y0.data(), y1.data()};
                   cuda::run_loop("loop", loop, rows, columns, wide, kNoStream);
                 },
                 y0, y1);
  std::vector<double> want;
  for (std::int64_t i = 0; i < n; ++i)
    want.push_back(double(cpu::silu(static_cast<float>(x0[i])) * x1[i % columns]));
  expect_close(y0, want, rounding<bf16>(), "run_loop");
  for (std::int64_t i = 0; i < n; ++i) CHECK(y1[i] == 42);
}

#ifndef __CUDACC__
// On fibers, device functions can be called; on a GPU the toolkit's mathematics is taken at its word.
void mathematics() {
  struct Function {
    const char* name;
    float (*own)(float);
    float (*cpu)(float);
  };
  const Function functions[] = {
      {"exp", cuda::exp, cpu::exp},          {"log", cuda::log, cpu::log},
      {"sqrt", cuda::sqrt, cpu::sqrt},       {"rsqrt", cuda::rsqrt, cpu::rsqrt},
      {"abs", cuda::abs, cpu::abs},          {"tanh", cuda::tanh, cpu::tanh},
      {"erf", cuda::erf, cpu::erf},          {"relu", cuda::relu, cpu::relu},
      {"sigmoid", cuda::sigmoid, cpu::sigmoid}, {"silu", cuda::silu, cpu::silu},
      {"silu_grad", cuda::silu_grad, cpu::silu_grad}, {"gelu", cuda::gelu, cpu::gelu},
      {"gelu_grad", cuda::gelu_grad, cpu::gelu_grad}, {"gelu_tanh", cuda::gelu_tanh, cpu::gelu_tanh},
      {"gelu_tanh_grad", cuda::gelu_tanh_grad, cpu::gelu_tanh_grad},
  };
  for (const auto& [name, own, on_cpu] : functions) {
    double worst = 0.0;
    for (float x = -30.0f; x <= 30.0f; x += 0.0137f) {
      const double got = double(own(x)), want = double(on_cpu(x));
      if (std::isnan(want) && std::isnan(got)) continue;
      worst = std::max(worst, std::isnan(got) ? INFINITY : std::fabs(got - want) / std::max(std::fabs(want), 1.0));
    }
    report(worst < 3e-6, std::string(name) + " is " + std::to_string(worst) + " from the CPU's");
    report(std::isnan(own(NAN)), std::string(name) + " of NaN is not NaN");
  }
  // Rounding to bf16 as everywhere else, and packs that keep all bits.
  for (const float x : {1.00390625f, 1.01171875f, -3e38f, 3.4e38f, 1e-40f, INFINITY, -INFINITY, 0.0f, -0.0f}) {
    bf16 stored;
    cuda::store(&stored, x);
    CHECK(stored.bits == to_bf16(x).bits);
    CHECK(std::bit_cast<std::uint32_t>(cuda::rounded<bf16>(x)) == std::uint32_t{stored.bits} << 16);
    CHECK(std::bit_cast<std::uint32_t>(cuda::rounded<float>(x)) == std::bit_cast<std::uint32_t>(x));
  }
  CHECK(std::isnan(cuda::rounded<bf16>(NAN)));
}
#else
void mathematics() {}
#endif

// Ends of documents of random lengths, against a walk from the end.
void ends_of_documents() {
  std::mt19937 random(12);
  for (const auto& [batch, sequence] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {3, 257}, {2, 1000}}) {
    Array<std::int32_t> segments(batch * sequence), got(batch * sequence);
    std::vector<double> want(static_cast<std::size_t>(batch * sequence));
    for (std::int64_t i = 0; i < segments.size(); ++i)
      segments[i] = i % sequence == 0 ? 0 : segments[i - 1] + (random() % 50 == 0 ? 1 : 0);
    for (std::int64_t i = segments.size() - 1; i >= 0; --i) {
      const bool is_last = i % sequence == sequence - 1 || segments[i] != segments[i + 1];
      const auto at = static_cast<std::size_t>(i);
      want[at] = is_last ? static_cast<double>(i % sequence + 1) : want[at + 1];
    }
    in_every_order("document_ends",
                   [&] { cuda::document_ends(segments.data(), got.data(), batch, sequence, kNoStream); }, got);
    report(values_of(got) == want, "document_ends of " + std::to_string(sequence) + " places");
  }
}

}  // namespace

void test_layout_kernels() {
  copies({70, 130}, {1, 0}, 2, 0);
  copies({3, 65, 2, 67}, {0, 3, 2, 1}, 4, 0);
  copies({2, 5, 3, 64}, {0, 2, 1, 3}, 2, 0);  // heads in front of the sequence: runs of 128 bytes
  random_copies();
  ends_of_documents();
  broadcasts();
  fills(2.5f);
  fills(to_bf16(-1.5f));
  fills(std::int32_t{-7});
  for (const auto& [rows, columns] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {1, 4099}, {7, 24}, {5, 13}})
    for (const bool wide : {false, true}) loops(rows, columns, wide);
  mathematics();
}

}  // namespace ithaca::test

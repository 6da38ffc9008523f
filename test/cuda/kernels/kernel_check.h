// What the tests of CUDA kernels share: runs in every order of threads, arrays off the 16-byte boundary, and workspaces
// that notice what is written behind them. g++ builds them to run on fibers, nvcc to run on a GPU.
#pragma once

#include <cstring>

#include "../../runtime/kernels/check.h"
#include "ithaca/error.h"
#include "kernels/cuda/stream.h"

#ifndef __CUDACC__
#include "../shim/fibers.h"
#else
namespace ithaca::cuda::shim {
// A GPU chooses the order itself: what is run three times must still give the same bits.
enum class Order { forward, backward, shuffled };
inline void run_in(Order) {}
}  // namespace ithaca::cuda::shim
#endif

namespace ithaca::test {

// The stream of every launch: fibers have none.
inline constexpr cudaStream_t kNoStream = nullptr;

template <typename T>
std::vector<double> values_of(Array<T>& array) {
  std::vector<double> values;
  for (std::int64_t i = 0; i < array.size(); ++i) values.push_back(array.at(i));
  return values;
}

template <typename T>
std::vector<unsigned char> bytes_of(Array<T>& array) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(array.data());
  return {bytes, bytes + static_cast<std::size_t>(array.size()) * sizeof(T)};
}

// Runs `body` with the threads of a block in each order: `outputs`, NaN beforehand, must have the same bits behind it.
template <typename Body, typename... T>
void in_every_order(const std::string& what, Body body, Array<T>&... outputs) {
  using cuda::shim::Order;
  std::vector<std::vector<unsigned char>> first;
  for (const Order order : {Order::forward, Order::backward, Order::shuffled}) {
    cuda::shim::run_in(order);
    (std::memset(static_cast<void*>(outputs.data()), 0xff, static_cast<std::size_t>(outputs.size()) * sizeof(T)), ...);
    body();
    std::vector<std::vector<unsigned char>> now = {bytes_of(outputs)...};
    if (first.empty()) first = now;
    report(now == first, what + ": depends on the order of threads");
  }
  cuda::shim::run_in(Order::forward);
}

// An array of n elements, `aside` elements off a 64-byte boundary, with the values of `from`.
template <typename T>
class Aside {
 public:
  Aside(Array<T>& from, std::int64_t aside) : held_(from.size() + aside), aside_(aside) {
    std::copy_n(from.data(), from.size(), data());
  }
  T* data() { return held_.data() + aside_; }

 private:
  Array<T> held_;
  std::int64_t aside_;
};

// Scratch of exactly `bytes`, NaN everywhere.
class Workspace {
 public:
  explicit Workspace(std::size_t bytes) : bytes_(bytes), held_(static_cast<std::int64_t>(bytes / 4 + kGuard)) {
    std::memset(data(), 0xff, bytes + kGuard * 4 - bytes % 4);
  }
  ~Workspace() {
    const auto* end = reinterpret_cast<const unsigned char*>(held_.data()) + bytes_;
    bool whole = true;
    for (std::size_t i = 0; i < (kGuard - 1) * 4; ++i) whole = whole && end[i] == 0xff;
    report(whole, "a kernel wrote behind its workspace of " + std::to_string(bytes_) + " bytes");
  }
  void* data() { return held_.data(); }

 private:
  static constexpr std::size_t kGuard = 1024;
  std::size_t bytes_;
  Array<float> held_;
};

template <typename Body>
void expect_error(Body body, const std::string& part) {
  std::string message = "nothing was thrown";
  try {
    body();
  } catch (const Error& error) {
    message = error.what();
  }
  report(message.find(part) != std::string::npos, "expected an error with '" + part + "', got: " + message);
}

// The same for what stops a kernel, which a GPU does not recover from: on fibers only.
template <typename Body>
void expect_stop(Body body, const std::string& part) {
#ifndef __CUDACC__
  expect_error(body, part);
#else
  static_cast<void>(sizeof(body) + sizeof(part));
#endif
}

void test_attention_kernels();
void test_fibers();
void test_rows_kernels();
void test_sums_kernels();
void test_training_kernels();
void test_layout_kernels();

}  // namespace ithaca::test

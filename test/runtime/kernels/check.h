// A very small test harness: checks that count, arrays with noise in them, and comparison with a reference.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "ithaca/dtype.h"

namespace ithaca::test {

inline int failures = 0;
inline int checks = 0;

inline void report(bool good, const std::string& what) {
  ++checks;
  if (good) return;
  ++failures;
  if (failures <= 40) std::printf("FAILED %s\n", what.c_str());
}

#define CHECK(condition) ::ithaca::test::report((condition), std::string(__FILE__) + ": " #condition)

// 64-byte aligned storage, as an arena has.
template <typename T>
class Array {
 public:
  explicit Array(std::int64_t n, float value = 0.0f) : size_(n) {
    const std::size_t bytes = (static_cast<std::size_t>(n) * sizeof(T) + 127) / 64 * 64;
    data_ = static_cast<T*>(::operator new(bytes, kAlignment));
    for (std::int64_t i = 0; i < n; ++i) data_[i] = make(value);
  }
  Array(const Array& other) : Array(other.size_) { std::copy_n(other.data_, size_, data_); }
  Array& operator=(const Array&) = delete;
  ~Array() { ::operator delete(data_, kAlignment); }

  // Normal numbers, rounded to T.
  static Array noise(std::int64_t n, unsigned seed, float scale = 1.0f) {
    Array a(n);
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0.0f, scale);
    for (std::int64_t i = 0; i < n; ++i) a.data_[i] = make(normal(random));
    return a;
  }

  T* data() { return data_; }
  T& operator[](std::int64_t i) { return data_[i]; }
  double at(std::int64_t i) const { return static_cast<double>(static_cast<float>(data_[i])); }
  std::int64_t size() const { return size_; }

 private:
  static T make(float value) {
    if constexpr (std::is_same_v<T, bf16>)
      return to_bf16(value);
    else
      return static_cast<T>(value);
  }
  static constexpr std::align_val_t kAlignment{64};
  T* data_;
  std::int64_t size_;
};

// Every element within `tolerance` of the reference, relative to the largest magnitude in it (0.1 at least).
template <typename T>
void expect_close(const Array<T>& got, const std::vector<double>& want, double tolerance, const std::string& what) {
  double largest = 0.1, worst = 0.0;
  std::int64_t where = 0;
  bool comparable = true;
  for (const double x : want) largest = std::max(largest, std::fabs(x));
  for (std::int64_t i = 0; i < got.size(); ++i) {
    const double error = std::fabs(got.at(i) - want[static_cast<std::size_t>(i)]);
    if (!(error <= worst)) worst = error, where = i;
    comparable = comparable && !std::isnan(error);
  }
  if (std::getenv("VERBOSE") != nullptr) std::printf("  %-60s %.2e\n", what.c_str(), worst / largest);
  report(comparable && worst <= tolerance * largest,
         what + ": at " + std::to_string(where) + " got " + std::to_string(got.at(where)) + ", want " +
             std::to_string(want[static_cast<std::size_t>(where)]) + ", error " + std::to_string(worst / largest));
}

template <typename T>
constexpr const char* type_name() {
  return std::is_same_v<T, bf16> ? "bf16" : "f32";
}
// The rounding error of one stored value, relative; tests allow a small multiple of it.
template <typename T>
constexpr double rounding() {
  return std::is_same_v<T, bf16> ? 1.0 / 256 : 1.2e-7;
}

void test_attention();
void test_elementwise();
void test_matmul();
void test_rows();
void test_training();

}  // namespace ithaca::test

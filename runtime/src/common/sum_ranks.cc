// Sums over ranks, a block at a time.
#include "ithaca/sum_ranks.h"

#include <algorithm>
#include <cstdint>

namespace ithaca {

namespace {

constexpr std::size_t kSumBlock = 2048;  // elements summed at a time, so that the running sum stays in the first cache

float widen(float value) { return value; }
float widen(bf16 value) { return value; }
void narrow(float sum, float& to) { to = sum; }
void narrow(float sum, bf16& to) { to = to_bf16(sum); }
std::int32_t widen(std::int32_t value) { return value; }
void narrow(std::int32_t sum, std::int32_t& to) { to = sum; }

// dst[0, count) = the sum over sources, in their order.
template <typename T>
void sum_as(const std::vector<const std::byte*>& sources, std::byte* dst, std::size_t count) {
  decltype(widen(T{})) sum[kSumBlock];
  for (std::size_t begin = 0; begin < count; begin += kSumBlock) {
    const std::size_t n = std::min(kSumBlock, count - begin);
    for (std::size_t r = 0; r < sources.size(); ++r) {
      const T* from = reinterpret_cast<const T*>(sources[r]) + begin;
      if (r == 0) {
        for (std::size_t i = 0; i < n; ++i) sum[i] = widen(from[i]);
      } else {
        for (std::size_t i = 0; i < n; ++i) sum[i] += widen(from[i]);
      }
    }
    T* to = reinterpret_cast<T*>(dst) + begin;
    for (std::size_t i = 0; i < n; ++i) narrow(sum[i], to[i]);
  }
}

}  // namespace

void sum_ranks(const std::vector<const std::byte*>& sources, std::byte* dst, std::size_t count, DType dtype) {
  if (dtype == DType::f32) sum_as<float>(sources, dst, count);
  if (dtype == DType::bf16) sum_as<bf16>(sources, dst, count);
  if (dtype == DType::i32) sum_as<std::int32_t>(sources, dst, count);
}

}  // namespace ithaca

// Philox and the normal deviates made from it.
#include "ithaca/random.h"

#include <cmath>
#include <numbers>

namespace ithaca {

std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = 0xD2511F53ull * counter[0];
    const std::uint64_t product1 = 0xCD9E8D57ull * counter[2];
    counter = {static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<std::uint32_t>(product1),
               static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<std::uint32_t>(product0)};
    key = {key[0] + 0x9E3779B9u, key[1] + 0xBB67AE85u};
  }
  return counter;
}

NormalStream::NormalStream(std::uint64_t seed, std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325ull;  // FNV-1a
  for (unsigned char c : name) hash = (hash ^ c) * 0x100000001b3ull;
  const std::uint64_t key = seed + hash;
  key_ = {static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32)};
}

void NormalStream::fill(std::int64_t first, std::int64_t count, float std, float* to) const {
  const std::int64_t last = first + count;
  // One call of philox makes four deviates: elements 4b to 4b + 3 (Box and Muller 1958, two pairs).
#pragma omp parallel for schedule(static) if (count > 16384)
  for (std::int64_t block = first / 4; block < (last + 3) / 4; ++block) {
    const auto word = philox({static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32), 0, 0}, key_);
    float normal[4];
    for (int pair = 0; pair < 2; ++pair) {
      const double radius = std::sqrt(-2 * std::log((word[2 * pair] + 1.0) * 0x1p-32));
      const double angle = 2 * std::numbers::pi * word[2 * pair + 1] * 0x1p-32;
      normal[2 * pair] = static_cast<float>(radius * std::cos(angle));
      normal[2 * pair + 1] = static_cast<float>(radius * std::sin(angle));
    }
    for (int i = 0; i < 4; ++i) {
      const std::int64_t element = 4 * block + i;
      if (element >= first && element < last) to[element - first] = std * normal[i];
    }
  }
}

}  // namespace ithaca

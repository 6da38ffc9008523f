// Random numbers that depend on a seed, a name and an element's index alone, never on ranks or threads.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace ithaca {

// Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key);

// The normal deviates of one tensor: element i has the same value whoever asks for it.
class NormalStream {
 public:
  NormalStream(std::uint64_t seed, std::string_view name);
  // Elements [first, first + count), mean 0, the given standard deviation.
  void fill(std::int64_t first, std::int64_t count, float std, float* to) const;

 private:
  std::array<std::uint32_t, 2> key_;
};

}  // namespace ithaca

// Copies between host memory and a rank's file, whole values at a time.
#pragma once

#include <cstddef>

#include "ithaca/file.h"

namespace ithaca::cpu {

inline void spill(const void* from, const File& file, std::size_t offset, std::size_t bytes) {
  file.write_at(offset, from, bytes);
}
inline void fetch(const File& file, std::size_t offset, void* to, std::size_t bytes) { file.read_at(offset, to, bytes); }

}  // namespace ithaca::cpu

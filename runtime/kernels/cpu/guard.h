// Debug builds guard the bytes of an arena that belong to nobody: they hold NaN in every element type, and under
// AddressSanitizer whoever touches them ends the program with a report.
#pragma once

#include <cstddef>
#include <cstring>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(data, bytes) (static_cast<void>(data), static_cast<void>(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(data, bytes) (static_cast<void>(data), static_cast<void>(bytes))
#endif

namespace ithaca::cpu {

// `data` may be touched from here on, and keeps its bytes.
inline void open_bytes(std::byte* data, std::size_t bytes) { ASAN_UNPOISON_MEMORY_REGION(data, bytes); }

// A buffer begins: what it holds is nobody's yet.
inline void take_bytes(std::byte* data, std::size_t bytes) {
  open_bytes(data, bytes);
  std::memset(data, 0xff, bytes);
}

// A buffer ends.
inline void give_back_bytes(std::byte* data, std::size_t bytes) {
  std::memset(data, 0xff, bytes);
  ASAN_POISON_MEMORY_REGION(data, bytes);
}

}  // namespace ithaca::cpu

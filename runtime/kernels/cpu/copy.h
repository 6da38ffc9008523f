// Copies, whole or between strided layouts (transposes, slices, concatenation), and constants.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace ithaca::cpu {

// dst[sum(i_d * dst_strides[d])] = src[sum(i_d * src_strides[d])] for every index below dims[rank].
// Strides count elements and may be 0 in src (broadcast); element_bytes is 1, 2, 4 or 8; rank <= 8.
// src and dst must not overlap.
void copy_strided(const void* src, const std::int64_t* src_strides, void* dst, const std::int64_t* dst_strides,
                  const std::int64_t* dims, int rank, int element_bytes);

inline void copy_bytes(const void* from, void* to, std::size_t bytes) { std::memcpy(to, from, bytes); }
inline void clear_bytes(void* to, std::size_t bytes) { std::memset(to, 0, bytes); }

template <typename T>
void fill(T* to, std::int64_t count, T value) {
  std::fill_n(to, count, value);
}

}  // namespace ithaca::cpu

// Copies between strided layouts: transposes, slices, concatenation.
#pragma once

#include <cstdint>

namespace ithaca::cpu {

// dst[sum(i_d * dst_strides[d])] = src[sum(i_d * src_strides[d])] for every index below dims[rank].
// Strides count elements and may be 0 in src (broadcast); element_bytes is 1, 2, 4 or 8; rank <= 8.
// src and dst must not overlap.
void copy_strided(const void* src, const std::int64_t* src_strides, void* dst, const std::int64_t* dst_strides,
                  const std::int64_t* dims, int rank, int element_bytes);

}  // namespace ithaca::cpu

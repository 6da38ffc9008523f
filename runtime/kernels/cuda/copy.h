// Copies between strided layouts (transposes, slices, concatenation, packing for collectives), and constants.
#pragma once

#include <cstdint>

#include "ithaca/dtype.h"
#include "stream.h"

namespace ithaca::cuda {

// dst[sum(i_d * dst_strides[d])] = src[sum(i_d * src_strides[d])] for every index below dims[rank].
// Strides count elements and may be 0 in src (broadcast); element_bytes is 1, 2, 4 or 8; rank <= 8. src and dst must
// not overlap. The three arrays are in host memory and are read before the call returns.
void copy_strided(const void* src, const std::int64_t* src_strides, void* dst, const std::int64_t* dst_strides,
                  const std::int64_t* dims, int rank, int element_bytes, cudaStream_t stream);

// x[i] = value for n elements of float, bf16 or std::int32_t.
template <typename T>
void fill(T* x, std::int64_t n, T value, cudaStream_t stream);

}  // namespace ithaca::cuda

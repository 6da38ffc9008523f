// Matrix products by cuBLASLt.
#pragma once

#include <cstddef>
#include <cstdint>

#include "libraries.h"
#include "stream.h"

namespace ithaca::cuda {

// What cuBLASLt's kernels split their sums into, in bytes: NVIDIA's recommendation for Hopper, enough for the others.
constexpr std::size_t kMatmulWorkspaceBytes = std::size_t{32} << 20;

// c[M, N] = op(a) op(b), or c += that if `accumulate`; on the device, row-major. a is [M, K], or [K, M] if
// transpose_a; b is [K, N], or [N, K] if transpose_b. Sums are f32, without TF32; O is float or T.
// How a shape is multiplied is chosen once, and is the same in every run on the same device and library.
template <typename T, typename O>
void matmul(Libraries& libraries, const T* a, const T* b, O* c, std::int64_t M, std::int64_t N, std::int64_t K,
            bool transpose_a, bool transpose_b, bool accumulate, void* workspace, std::size_t workspace_bytes,
            cudaStream_t stream);

}  // namespace ithaca::cuda

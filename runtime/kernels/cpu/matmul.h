// Matrix products: oneDNN's, and for bf16 on AMX our own.
#pragma once

#include <cstdint>

#include "bf16_products.h"

namespace ithaca::cpu {

// c[M, N] = op(a) op(b) + bias, or c += that if `accumulate`. a is [M, K], or [K, M] if transpose_a; b is
// [K, N], or [N, K] if transpose_b; bias, where given, is [N]. Sums are f32; O is float or T.
// bf16 without AVX512_BF16 is converted block by block and multiplied in f32.
// The first call with a shape prepares it (under a millisecond) for the calling thread; later ones allocate nothing.
template <typename T, typename O>
void matmul(const T* a, const T* b, O* c, std::int64_t M, std::int64_t N, std::int64_t K, bool transpose_a,
            bool transpose_b, bool accumulate, const T* bias = nullptr);

// How bf16 is multiplied here; matmul_use allows no more than the given kind, for tests.
Bf16Products matmul_products();
void matmul_use(Bf16Products most);

}  // namespace ithaca::cpu

// bf16 products on AMX's tiles; used by matmul where the CPU and the kernel grant them.
#pragma once

#include <cstdint>

#include "ithaca/dtype.h"

namespace ithaca::cpu {

// False where the build or the machine has no AMX; matmul_amx must not be called then.
bool matmul_amx_available();

// As matmul() with T = bf16; O is float or bf16. Keeps up to 4 MiB of scratch per thread.
template <typename O>
void matmul_amx(const bf16* a, const bf16* b, O* c, std::int64_t M, std::int64_t N, std::int64_t K, bool transpose_a,
                bool transpose_b, bool accumulate, const bf16* bias);

}  // namespace ithaca::cpu

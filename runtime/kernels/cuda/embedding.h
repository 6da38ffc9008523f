// Looking rows up in a table, and adding their gradients back.
#pragma once

#include <cstdint>

#include "stream.h"

namespace ithaca::cuda {

// out[r] = table[ids[r]]; table [vocabulary, columns], ids i32[rows], out [rows, columns]. An id outside the table
// stops the program with a message.
template <typename T, typename O>
void embedding(const std::int32_t* ids, const T* table, O* out, std::int64_t rows, std::int64_t columns,
               std::int64_t vocabulary, cudaStream_t stream);

// d_table[ids[r]] += d_out[r], f32[vocabulary, columns], zero-filled first unless `accumulate`. Every element is
// summed in the order of the rows, as on the CPU: no atomics, no sorting, no workspace.
template <typename T>
void embedding_grad(const std::int32_t* ids, const T* d_out, float* d_table, std::int64_t rows, std::int64_t columns,
                    std::int64_t vocabulary, bool accumulate, cudaStream_t stream);

}  // namespace ithaca::cuda

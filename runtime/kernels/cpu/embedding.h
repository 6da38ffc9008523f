// Looking rows up in a table, and adding their gradients back.
#pragma once

#include <cstdint>

namespace ithaca::cpu {

// out[r] = table[ids[r]]; table [vocabulary, columns], ids i32[rows], out [rows, columns].
// Throws Error on an id outside the table.
template <typename T, typename O>
void embedding(const std::int32_t* ids, const T* table, O* out, std::int64_t rows, std::int64_t columns,
               std::int64_t vocabulary);

// d_table[ids[r]] += d_out[r], f32[vocabulary, columns], zero-filled first unless `accumulate`. Every element
// is summed in the order of the rows, whatever the number of threads.
template <typename T>
void embedding_grad(const std::int32_t* ids, const T* d_out, float* d_table, std::int64_t rows,
                    std::int64_t columns, std::int64_t vocabulary, bool accumulate);

}  // namespace ithaca::cpu

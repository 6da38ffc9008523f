// Copies of whole arrays, between memories or within one, and their clearing.
#pragma once

#include <cstddef>

#include "stream.h"

namespace ithaca::cuda {

void copy_bytes(const void* from, void* to, std::size_t bytes, cudaStream_t stream);
void clear_bytes(void* to, std::size_t bytes, cudaStream_t stream);

}  // namespace ithaca::cuda

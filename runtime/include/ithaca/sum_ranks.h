// The sum that every carrier of collectives computes, so that all give the same bits.
#pragma once

#include <cstddef>
#include <vector>

#include "ithaca/dtype.h"

namespace ithaca {

// dst[0, count) = the sum over `sources` in their order, `count` elements each, bf16 accumulated in f32 and rounded
// once. `dst` may be one of the sources.
void sum_ranks(const std::vector<const std::byte*>& sources, std::byte* dst, std::size_t count, DType dtype);

}  // namespace ithaca

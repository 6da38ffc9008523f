// Collectives on tensors: packing around Comm, so that any dimension can be split.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "exchange_shape.h"
#include "ithaca/dtype.h"

namespace ithaca {
class Comm;
}

namespace ithaca::cpu {

// Moves the split of every tensor over the ranks of `comm` between its two dimensions, all in one exchange. If
// `to_minor`, x holds a part of major and all of minor, y all of major and a part of minor; else the other way round.
// workspace: for every tensor the bytes of x once if outer * major * middle > 1, and once more if outer > 1.
void all_to_all(Comm& comm, std::initializer_list<Exchange> tensors, bool to_minor, void* workspace);

// y [outer, size * part, inner] from every rank's x [outer, part, inner]. workspace: the bytes of y, if outer > 1.
void all_gather(Comm& comm, const void* x, void* y, std::int64_t outer, std::int64_t part, std::int64_t inner,
                int element_bytes, void* workspace);

// y [outer, part, inner] = this rank's part of the sum of every rank's x [outer, size * part, inner]. workspace: the
// bytes of x, if outer > 1.
void reduce_scatter(Comm& comm, const void* x, void* y, std::int64_t outer, std::int64_t part, std::int64_t inner,
                    DType dtype, void* workspace);

// y = the sum of every rank's x, `count` elements; y may be x.
void all_reduce(Comm& comm, const void* x, void* y, std::int64_t count, DType dtype);

}  // namespace ithaca::cpu

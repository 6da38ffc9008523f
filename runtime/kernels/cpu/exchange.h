// Collectives on tensors: packing around Comm, so that any dimension can be split.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ithaca/comm.h"

namespace ithaca::cpu {

// A rank's share seen as [outer, major, middle, minor, inner], where major and minor are the two dimensions exchanged.
struct ExchangeShape {
  std::int64_t outer, major, middle, minor, inner;
  int element_bytes;
};

// Moves a split over the ranks of `comm` between two dimensions. If `to_minor`, x holds a part of major and all of
// minor, y all of major and a part of minor; else the other way round. `shape` has the sizes of the parts: x and y are
// comm.size() times its elements. workspace: exchange_workspace_bytes.
void all_to_all(Comm& comm, const void* x, void* y, const ExchangeShape& shape, bool to_minor, void* workspace);

// y [outer, size * part, inner] from every rank's x [outer, part, inner].
void all_gather(Comm& comm, const void* x, void* y, std::int64_t outer, std::int64_t part, std::int64_t inner,
                int element_bytes, void* workspace);

// y [outer, part, inner] = this rank's part of the sum of every rank's x [outer, size * part, inner].
void reduce_scatter(Comm& comm, const void* x, void* y, std::int64_t outer, std::int64_t part, std::int64_t inner,
                    DType dtype, void* workspace);

// y = the sum of every rank's x, `count` elements; y may be x.
void all_reduce(Comm& comm, const void* x, void* y, std::int64_t count, DType dtype);

// What all_to_all needs for `bytes` = those of x, all_gather for those of y, reduce_scatter for those of x: chunks
// are packed before they are sent and unpacked behind.
constexpr std::size_t exchange_workspace_bytes(std::size_t bytes) { return 2 * bytes; }

}  // namespace ithaca::cpu

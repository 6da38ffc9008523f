// Packing around collectives, so that any dimension can be split; written once over a link to the other ranks.
//
// A Link has size(), copy_strided() of its target, and the collectives of Comm. What lies together already is sent or
// received in place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <utility>
#include <vector>

#include "exchange_shape.h"
#include "ithaca/comm.h"

namespace ithaca {

namespace packing {

// Copies between [outer, ranks, part, inner] and [ranks, outer, part, inner], which is how chunks lie.
template <typename Link>
void pack(Link& link, const void* from, void* to, std::int64_t outer, std::int64_t row, int element_bytes) {
  const std::int64_t ranks = link.size();
  const std::int64_t dims[] = {ranks, outer, row};
  const std::int64_t from_strides[] = {row, ranks * row, 1};
  const std::int64_t to_strides[] = {outer * row, row, 1};
  link.copy_strided(from, from_strides, to, to_strides, dims, 3, element_bytes);
}

template <typename Link>
void unpack(Link& link, const void* from, void* to, std::int64_t outer, std::int64_t row, int element_bytes) {
  const std::int64_t ranks = link.size();
  const std::int64_t dims[] = {ranks, outer, row};
  const std::int64_t from_strides[] = {outer * row, row, 1};
  const std::int64_t to_strides[] = {row, ranks * row, 1};
  link.copy_strided(from, from_strides, to, to_strides, dims, 3, element_bytes);
}

// Runs that lie apart in memory where a tensor is cut along one of its two dimensions, and their length in elements.
struct Rows {
  std::int64_t count, length;
};

// A cut along minor cuts every row of [outer, major, middle], one along major only those of outer.
inline Rows rows_of(const ExchangeShape& shape, bool cuts_minor) {
  const auto& [outer, major, middle, minor, inner, element_bytes] = shape;
  return cuts_minor ? Rows{outer * major * middle, minor * inner} : Rows{outer, major * middle * minor * inner};
}

inline std::size_t chunk_bytes(const ExchangeShape& shape) {
  const auto& [outer, major, middle, minor, inner, element_bytes] = shape;
  return static_cast<std::size_t>(outer * major * middle * minor * inner) * static_cast<std::size_t>(element_bytes);
}

template <typename Link>
void all_to_all(Link& link, std::initializer_list<Exchange> tensors, bool to_minor, void* workspace) {
  std::vector<Comm::Part> parts;
  auto* scratch = static_cast<std::byte*>(workspace);
  for (const auto& [x, y, shape] : tensors) {
    Comm::Part part{x, y, chunk_bytes(shape)};
    const auto take = [&] { return std::exchange(scratch, scratch + static_cast<std::size_t>(link.size()) * part.bytes); };
    const Rows sent = rows_of(shape, to_minor);
    if (sent.count > 1) {
      auto* staged = take();
      pack(link, x, staged, sent.count, sent.length, shape.element_bytes);
      part.send = staged;
    }
    if (rows_of(shape, !to_minor).count > 1) part.recv = take();
    parts.push_back(part);
  }
  link.all_to_all(parts);
  std::size_t i = 0;
  for (const auto& [x, y, shape] : tensors) {
    const void* received = parts[i++].recv;
    const Rows rows = rows_of(shape, !to_minor);
    if (rows.count > 1) unpack(link, received, y, rows.count, rows.length, shape.element_bytes);
  }
}

template <typename Link>
void all_gather(Link& link, const void* x, void* y, std::int64_t outer, std::int64_t part, std::int64_t inner,
                int element_bytes, void* workspace) {
  const std::int64_t row = part * inner;
  const std::size_t bytes = static_cast<std::size_t>(outer * row) * static_cast<std::size_t>(element_bytes);
  void* receive = outer > 1 ? workspace : y;
  link.all_gather(x, receive, bytes);
  if (outer > 1) unpack(link, receive, y, outer, row, element_bytes);
}

template <typename Link>
void reduce_scatter(Link& link, const void* x, void* y, std::int64_t outer, std::int64_t part, std::int64_t inner,
                    DType dtype, void* workspace) {
  const std::int64_t row = part * inner;
  const void* send = x;
  if (outer > 1) {
    pack(link, x, workspace, outer, row, static_cast<int>(dtype_bytes(dtype)));
    send = workspace;
  }
  link.reduce_scatter(send, y, static_cast<std::size_t>(outer * row), dtype);
}

}  // namespace packing
}  // namespace ithaca

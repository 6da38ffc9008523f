// Packing and unpacking around the collectives; what is contiguous already is sent or received in place.
#include "exchange.h"

#include <utility>
#include <vector>

#include "copy.h"

namespace ithaca::cpu {
namespace {

// Copies between [outer, ranks, part, inner] and [ranks, outer, part, inner], which is how chunks lie.
void pack(const void* from, void* to, std::int64_t outer, std::int64_t ranks, std::int64_t row, int element_bytes) {
  const std::int64_t dims[] = {ranks, outer, row};
  const std::int64_t from_strides[] = {row, ranks * row, 1};
  const std::int64_t to_strides[] = {outer * row, row, 1};
  copy_strided(from, from_strides, to, to_strides, dims, 3, element_bytes);
}

void unpack(const void* from, void* to, std::int64_t outer, std::int64_t ranks, std::int64_t row, int element_bytes) {
  const std::int64_t dims[] = {ranks, outer, row};
  const std::int64_t from_strides[] = {outer * row, row, 1};
  const std::int64_t to_strides[] = {row, ranks * row, 1};
  copy_strided(from, from_strides, to, to_strides, dims, 3, element_bytes);
}

// Runs that lie apart in memory where a tensor is cut along one of its two dimensions, and their length in elements.
struct Rows {
  std::int64_t count, length;
};

// A cut along minor cuts every row of [outer, major, middle], one along major only those of outer.
Rows rows_of(const ExchangeShape& shape, bool cuts_minor) {
  const auto& [outer, major, middle, minor, inner, element_bytes] = shape;
  return cuts_minor ? Rows{outer * major * middle, minor * inner} : Rows{outer, major * middle * minor * inner};
}

std::size_t chunk_bytes(const ExchangeShape& shape) {
  const auto& [outer, major, middle, minor, inner, element_bytes] = shape;
  return static_cast<std::size_t>(outer * major * middle * minor * inner) * static_cast<std::size_t>(element_bytes);
}

}  // namespace

void all_to_all(Comm& comm, std::initializer_list<Exchange> tensors, bool to_minor, void* workspace) {
  const std::int64_t ranks = comm.size();
  std::vector<Comm::Part> parts;
  auto* scratch = static_cast<std::byte*>(workspace);
  for (const auto& [x, y, shape] : tensors) {
    Comm::Part part{x, y, chunk_bytes(shape)};
    const auto take = [&] { return std::exchange(scratch, scratch + static_cast<std::size_t>(ranks) * part.bytes); };
    const Rows sent = rows_of(shape, to_minor);
    if (sent.count > 1) {
      auto* staged = take();
      pack(x, staged, sent.count, ranks, sent.length, shape.element_bytes);
      part.send = staged;
    }
    if (rows_of(shape, !to_minor).count > 1) part.recv = take();
    parts.push_back(part);
  }
  comm.all_to_all(parts);
  std::size_t i = 0;
  for (const auto& [x, y, shape] : tensors) {
    const void* received = parts[i++].recv;
    const Rows rows = rows_of(shape, !to_minor);
    if (rows.count > 1) unpack(received, y, rows.count, ranks, rows.length, shape.element_bytes);
  }
}

void all_gather(Comm& comm, const void* x, void* y, std::int64_t outer, std::int64_t part, std::int64_t inner,
                int element_bytes, void* workspace) {
  const std::int64_t row = part * inner;
  const std::size_t bytes = static_cast<std::size_t>(outer * row) * static_cast<std::size_t>(element_bytes);
  void* receive = outer > 1 ? workspace : y;
  comm.all_gather(x, receive, bytes);
  if (outer > 1) unpack(receive, y, outer, comm.size(), row, element_bytes);
}

void reduce_scatter(Comm& comm, const void* x, void* y, std::int64_t outer, std::int64_t part, std::int64_t inner,
                    DType dtype, void* workspace) {
  const std::int64_t row = part * inner;
  const void* send = x;
  if (outer > 1) {
    pack(x, workspace, outer, comm.size(), row, static_cast<int>(dtype_bytes(dtype)));
    send = workspace;
  }
  comm.reduce_scatter(send, y, static_cast<std::size_t>(outer * row), dtype);
}

void all_reduce(Comm& comm, const void* x, void* y, std::int64_t count, DType dtype) {
  comm.all_reduce(x, y, static_cast<std::size_t>(count), dtype);
}

}  // namespace ithaca::cpu

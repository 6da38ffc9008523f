// Packing and unpacking around the collectives; what is contiguous already is sent or received in place.
#include "exchange.h"

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

}  // namespace

void all_to_all(Comm& comm, const void* x, void* y, const ExchangeShape& shape, bool to_minor, void* workspace) {
  const auto& [outer, major, middle, minor, inner, element_bytes] = shape;
  const std::int64_t ranks = comm.size();
  const std::int64_t chunk = outer * major * middle * minor * inner;
  const std::size_t chunk_bytes = static_cast<std::size_t>(chunk) * static_cast<std::size_t>(element_bytes);
  auto* staged = static_cast<std::byte*>(workspace);
  auto* received = staged + static_cast<std::size_t>(ranks) * chunk_bytes;
  // The split along minor cuts every row of [outer, major, middle]; that along major only those of outer.
  const std::int64_t minor_rows = outer * major * middle;
  const std::int64_t minor_row = minor * inner;
  const std::int64_t major_row = major * middle * minor * inner;
  const std::int64_t send_rows = to_minor ? minor_rows : outer;
  const std::int64_t receive_rows = to_minor ? outer : minor_rows;
  const void* send = x;
  if (send_rows > 1) {
    pack(x, staged, send_rows, ranks, to_minor ? minor_row : major_row, element_bytes);
    send = staged;
  }
  void* receive = receive_rows > 1 ? received : y;
  comm.all_to_all(send, receive, chunk_bytes);
  if (receive_rows > 1) unpack(receive, y, receive_rows, ranks, to_minor ? major_row : minor_row, element_bytes);
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

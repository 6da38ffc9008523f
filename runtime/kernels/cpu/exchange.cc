// The link of packing.h on this machine.
#include "exchange.h"

#include "copy.h"
#include "ithaca/comm.h"
#include "packing.h"

namespace ithaca::cpu {

namespace {

struct Link {
  Comm& comm;

  int size() const { return comm.size(); }
  void copy_strided(const void* from, const std::int64_t* from_strides, void* to, const std::int64_t* to_strides,
                    const std::int64_t* dims, int rank, int element_bytes) const {
    cpu::copy_strided(from, from_strides, to, to_strides, dims, rank, element_bytes);
  }
  void all_to_all(std::span<const Comm::Part> parts) const { comm.all_to_all(parts); }
  void all_gather(const void* send, void* recv, std::size_t bytes) const { comm.all_gather(send, recv, bytes); }
  void reduce_scatter(const void* send, void* recv, std::size_t count, DType dtype) const {
    comm.reduce_scatter(send, recv, count, dtype);
  }
};

}  // namespace

void all_to_all(Comm& comm, std::initializer_list<Exchange> tensors, bool to_minor, void* workspace) {
  Link link{comm};
  packing::all_to_all(link, tensors, to_minor, workspace);
}

void all_gather(Comm& comm, const void* x, void* y, std::int64_t outer, std::int64_t part, std::int64_t inner,
                int element_bytes, void* workspace) {
  Link link{comm};
  packing::all_gather(link, x, y, outer, part, inner, element_bytes, workspace);
}

void reduce_scatter(Comm& comm, const void* x, void* y, std::int64_t outer, std::int64_t part, std::int64_t inner,
                    DType dtype, void* workspace) {
  Link link{comm};
  packing::reduce_scatter(link, x, y, outer, part, inner, dtype, workspace);
}

void all_reduce(Comm& comm, const void* x, void* y, std::int64_t count, DType dtype) {
  comm.all_reduce(x, y, static_cast<std::size_t>(count), dtype);
}

}  // namespace ithaca::cpu

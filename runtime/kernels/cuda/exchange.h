// Collectives on tensors in device memory: packing around DeviceComm, so that any dimension can be split.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "cuda/device_comm.h"
#include "packing.h"

namespace ithaca::cuda {

// As in kernels/cpu/exchange.h, issued on `stream`.
void all_to_all(DeviceComm& comm, std::initializer_list<Exchange> tensors, bool to_minor, void* workspace,
                cudaStream_t stream);
void all_gather(DeviceComm& comm, const void* x, void* y, std::int64_t outer, std::int64_t part, std::int64_t inner,
                int element_bytes, void* workspace, cudaStream_t stream);
void reduce_scatter(DeviceComm& comm, const void* x, void* y, std::int64_t outer, std::int64_t part,
                    std::int64_t inner, DType dtype, void* workspace, cudaStream_t stream);
void all_reduce(DeviceComm& comm, const void* x, void* y, std::int64_t count, DType dtype, cudaStream_t stream);

}  // namespace ithaca::cuda

// Collectives on device memory, issued on a stream.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "ithaca/comm.h"
#include "ithaca/dtype.h"

namespace ithaca::cuda {

// One rank's end of a group; Comm's contract, but calls return when they are issued and run in the stream's order. What
// follows on the stream sees `recv` filled and may overwrite `send`.
class DeviceComm {
 public:
  virtual ~DeviceComm() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual void all_to_all(std::span<const Comm::Part> parts, cudaStream_t stream) = 0;
  virtual void all_gather(const void* send, void* recv, std::size_t bytes, cudaStream_t stream) = 0;
  virtual void reduce_scatter(const void* send, void* recv, std::size_t count, DType dtype, cudaStream_t stream) = 0;
  virtual void all_reduce(const void* send, void* recv, std::size_t count, DType dtype, cudaStream_t stream) = 0;
  // Throws Error if a call that was issued has failed since; what was issued may then never end.
  virtual void check() {}
  // Whether a rank that dies shows in check() alone, so that a wait without it might have no end.
  virtual bool is_watched() const { return false; }
  // As Comm::bytes_sent(), counted as calls are issued.
  std::uint64_t bytes_sent() const { return bytes_sent_; }

 protected:
  void count_sent(std::size_t bytes) { bytes_sent_ += bytes; }

 private:
  std::uint64_t bytes_sent_ = 0;
};

// Among ranks that are threads of this process: each reads the others' memory, on one GPU or on GPUs that reach each
// other. `host` carries what they have to agree on, and outlives the result.
std::unique_ptr<DeviceComm> open_shared_comm(Comm& host);

// NCCL among ranks in any processes. `host` carries NCCL's id. Throws Error where the program was built without NCCL.
std::unique_ptr<DeviceComm> open_nccl_comm(Comm& host);

}  // namespace ithaca::cuda

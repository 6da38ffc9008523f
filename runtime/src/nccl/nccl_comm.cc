// Collectives by NCCL. bf16 sums are NCCL's own, which round at every hop; programs reduce gradients in f32.
#include <nccl.h>

#include <chrono>
#include <cstdlib>
#include <thread>
#include <vector>

#include "cuda/check.h"
#include "cuda/device_comm.h"

namespace ithaca::cuda {

namespace {

// In which the world finds out which rank has died, says so and ends this process: NCCL knows only that one has.
constexpr auto kForTheName = std::chrono::seconds(3);

void check_nccl(ncclResult_t code, const char* call, ncclComm_t comm = nullptr) {
  if (code == ncclSuccess || code == ncclInProgress) return;
  const char* last = ncclGetLastError(comm);
  throw Error(std::string(call) + " failed: " + ncclGetErrorString(code) + (last && *last ? std::string("; ") + last : ""));
}

ncclDataType_t nccl_type(DType dtype) {
  if (dtype == DType::bf16) return ncclBfloat16;
  return dtype == DType::i32 ? ncclInt32 : ncclFloat32;
}

class NcclComm final : public DeviceComm {
 public:
  explicit NcclComm(Comm& host) : host_(host) {
    // Where the ranks have met. NCCL would have every communicator's first rank listen there.
    unsetenv("NCCL_COMM_ID");
    ncclUniqueId mine = {};
    if (host.rank() == 0) check_nccl(ncclGetUniqueId(&mine), "ncclGetUniqueId");
    std::vector<ncclUniqueId> all(host.size());
    host.all_gather(&mine, all.data(), sizeof mine);
    check_nccl(ncclCommInitRank(&comm_, host.size(), all[0], host.rank()), "ncclCommInitRank");
  }
  ~NcclComm() override {
    if (comm_) ncclCommDestroy(comm_);
  }

  int rank() const override { return host_.rank(); }
  int size() const override { return host_.size(); }

  // All parts in one group. NCCL's own ncclAlltoAll is a group of such pairs as well, unless buffers are registered windows.
  void all_to_all(std::span<const Comm::Part> parts, cudaStream_t stream) override {
    check_nccl(ncclGroupStart(), "ncclGroupStart");
    for (const auto& [send, recv, bytes] : parts) {
      count_sent((size() - 1) * bytes);
      for (int r = 0; r < size(); ++r) {
        const auto* from = static_cast<const std::byte*>(send) + r * bytes;
        auto* to = static_cast<std::byte*>(recv) + r * bytes;
        check_nccl(ncclSend(from, bytes, ncclInt8, r, comm_, stream), "ncclSend", comm_);
        check_nccl(ncclRecv(to, bytes, ncclInt8, r, comm_, stream), "ncclRecv", comm_);
      }
    }
    check_nccl(ncclGroupEnd(), "ncclGroupEnd", comm_);
  }
  void all_gather(const void* send, void* recv, std::size_t bytes, cudaStream_t stream) override {
    count_sent((size() - 1) * bytes);
    check_nccl(ncclAllGather(send, recv, bytes, ncclInt8, comm_, stream), "ncclAllGather", comm_);
  }
  void reduce_scatter(const void* send, void* recv, std::size_t count, DType dtype, cudaStream_t stream) override {
    count_sent((size() - 1) * count * dtype_bytes(dtype));
    check_nccl(ncclReduceScatter(send, recv, count, nccl_type(dtype), ncclSum, comm_, stream), "ncclReduceScatter", comm_);
  }
  void all_reduce(const void* send, void* recv, std::size_t count, DType dtype, cudaStream_t stream) override {
    const std::size_t bytes = count * dtype_bytes(dtype);
    const std::size_t part = bytes <= kSmallSumBytes ? 0 : count / size();  // as Comm::all_reduce counts
    count_sent((size() - 1) * (2 * part + (count - part * size())) * dtype_bytes(dtype));
    check_nccl(ncclAllReduce(send, recv, count, nccl_type(dtype), ncclSum, comm_, stream), "ncclAllReduce", comm_);
  }
  void check() override {
    ncclResult_t state = ncclSuccess;
    if (comm_) check_nccl(ncclCommGetAsyncError(comm_, &state), "ncclCommGetAsyncError", comm_);
    if (state == ncclSuccess || state == ncclInProgress) return;
    const std::string why = ncclGetErrorString(state);
    const std::string last = ncclGetLastError(comm_);
    // Ends the kernels that wait for a rank without end.
    ncclCommAbort(comm_);
    comm_ = nullptr;
    std::this_thread::sleep_for(kForTheName);
    throw Error("NCCL says that a collective failed: " + why + (last.empty() ? "" : "; " + last));
  }
  bool is_watched() const override { return true; }

 private:
  Comm& host_;
  ncclComm_t comm_ = nullptr;
};

}  // namespace

std::unique_ptr<DeviceComm> open_nccl_comm(Comm& host) { return std::make_unique<NcclComm>(host); }

}  // namespace ithaca::cuda

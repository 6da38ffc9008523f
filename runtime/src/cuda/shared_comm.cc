// Collectives among ranks that are threads: every rank publishes its buffer, the streams wait for each other, each
// reads what it needs. The host threads only agree on pointers; the data never pass through the host.
#include <algorithm>
#include <vector>

#include "cuda/check.h"
#include "cuda/device_comm.h"
#include "cuda/sum_peers.h"

namespace ithaca::cuda {

namespace {

struct Published {
  const std::byte* send;
  cudaEvent_t ready;  // what fills `send`
  cudaEvent_t done;   // what its owner reads of the others
  int device;
};

class SharedComm final : public DeviceComm {
 public:
  explicit SharedComm(Comm& host) : host_(host), peers_(host.size()) {
    if (host.size() > kMaxPeers) {
      throw Error("parallel.comm local shares a mesh axis between at most " + std::to_string(kMaxPeers) +
                  " ranks on GPUs, and this one has " + std::to_string(host.size()) + "; use parallel.comm: nccl");
    }
    check_cuda(cudaGetDevice(&device_), "cudaGetDevice");
    for (cudaEvent_t* event : {&ready_, &done_}) {
      check_cuda(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
    }
    void* scratch = nullptr;
    check_cuda(cudaMalloc(&scratch, kSmallSumBytes + kMaxPeers * sizeof(float)), "cudaMalloc");
    scratch_ = static_cast<std::byte*>(scratch);
  }
  ~SharedComm() override {
    cudaEventDestroy(ready_);
    cudaEventDestroy(done_);
    cudaFree(scratch_);
  }

  int rank() const override { return host_.rank(); }
  int size() const override { return host_.size(); }

  void all_to_all(std::span<const Comm::Part> parts, cudaStream_t stream) override {
    for (const auto& [send, recv, bytes] : parts) {
      begin(send, stream);
      auto* to = static_cast<std::byte*>(recv);
      for (int r : others_first()) take(r, to + r * bytes, peers_[r].send + rank() * bytes, bytes, stream);
      end(stream);
    }
  }

  void all_gather(const void* send, void* recv, std::size_t bytes, cudaStream_t stream) override {
    begin(send, stream);
    auto* to = static_cast<std::byte*>(recv);
    for (int r : others_first()) take(r, to + r * bytes, peers_[r].send, bytes, stream);
    end(stream);
  }

  void reduce_scatter(const void* send, void* recv, std::size_t count, DType dtype, cudaStream_t stream) override {
    begin(send, stream);
    sum(rank() * count, recv, count, dtype, stream);
    end(stream);
  }

  void all_reduce(const void* send, void* recv, std::size_t count, DType dtype, cudaStream_t stream) override {
    auto* to = static_cast<std::byte*>(recv);
    const std::size_t bytes = dtype_bytes(dtype);
    const std::size_t part = count * bytes <= kSmallSumBytes ? 0 : count / size();
    const std::size_t done = part * size();
    begin(send, stream);
    // Nobody else reads this rank's part, which may be in place; what all read is written once all have read it.
    sum(rank() * part, to + rank() * part * bytes, part, dtype, stream);
    sum(done, scratch_, count - done, dtype, stream);
    end(stream);
    copy(to + done * bytes, scratch_, (count - done) * bytes, stream);
    if (part == 0) return;
    begin(recv, stream);
    for (int r : others_first()) {
      if (r != rank()) take(r, to + r * part * bytes, peers_[r].send + r * part * bytes, part * bytes, stream);
    }
    end(stream);
  }

 private:
  // Tells all ranks what this one publishes, and learns theirs.
  void meet(const void* send) {
    const Published mine = {static_cast<const std::byte*>(send), ready_, done_, device_};
    host_.all_gather(&mine, peers_.data(), sizeof mine);
  }

  void begin(const void* send, cudaStream_t stream) {
    check_cuda(cudaEventRecord(ready_, stream), "cudaEventRecord");
    meet(send);
    if (!reached_) reach_peers();
    for (const Published& peer : peers_) {
      check_cuda(cudaStreamWaitEvent(stream, peer.ready, 0), "cudaStreamWaitEvent");
    }
  }

  // Behind it every rank's `send` has been read.
  void end(cudaStream_t stream) {
    check_cuda(cudaEventRecord(done_, stream), "cudaEventRecord");
    host_.barrier();
    for (const Published& peer : peers_) {
      check_cuda(cudaStreamWaitEvent(stream, peer.done, 0), "cudaStreamWaitEvent");
    }
  }

  // At the first call, since the ranks of one thread are opened one after the other.
  void reach_peers() {
    reached_ = true;
    for (const Published& peer : peers_) {
      int reachable = 0;
      if (peer.device == device_) continue;
      check_cuda(cudaDeviceCanAccessPeer(&reachable, device_, peer.device), "cudaDeviceCanAccessPeer");
      if (!reachable) {
        throw Error("GPU " + std::to_string(device_) + " can't read the memory of GPU " + std::to_string(peer.device) +
                    "; use parallel.comm: nccl");
      }
      const cudaError_t code = cudaDeviceEnablePeerAccess(peer.device, 0);
      if (code != cudaErrorPeerAccessAlreadyEnabled) check_cuda(code, "cudaDeviceEnablePeerAccess");
      cudaGetLastError();
    }
  }

  void copy(std::byte* to, const std::byte* from, std::size_t bytes, cudaStream_t stream) {
    if (bytes > 0) check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream), "a copy between ranks");
  }

  // What is taken from another rank it has sent. Every rank of a call takes as much as it gives.
  void take(int from_rank, std::byte* to, const std::byte* from, std::size_t bytes, cudaStream_t stream) {
    if (from_rank != rank()) count_sent(bytes);
    if (to != from) copy(to, from, bytes, stream);
  }

  // recv[0, count) = the sum of all ranks' elements from `begin` on, in rank order.
  void sum(std::size_t begin, void* recv, std::size_t count, DType dtype, cudaStream_t stream) {
    Peers from = {};
    from.count = size();
    for (int r = 0; r < size(); ++r) from.data[r] = peers_[r].send + begin * dtype_bytes(dtype);
    if (count > 0) sum_peers(from, recv, static_cast<std::int64_t>(count), dtype, stream);
    count_sent((size() - 1) * count * dtype_bytes(dtype));
  }

  // Every rank starts with another neighbour, so that not all read the same memory at once.
  std::vector<int> others_first() const {
    std::vector<int> order;
    for (int i = 1; i <= size(); ++i) order.push_back((rank() + i) % size());
    return order;
  }

  Comm& host_;
  std::vector<Published> peers_;
  cudaEvent_t ready_ = nullptr;
  cudaEvent_t done_ = nullptr;
  std::byte* scratch_ = nullptr;  // a sum that is too small to be shared
  int device_ = 0;
  bool reached_ = false;
};

}  // namespace

std::unique_ptr<DeviceComm> open_shared_comm(Comm& host) { return std::make_unique<SharedComm>(host); }

}  // namespace ithaca::cuda

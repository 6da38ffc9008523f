// One arena on a GPU and one of pinned memory; a step is issued call by call, or replayed as a CUDA graph.
#include "cuda/gpu.h"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>

#include "cuda/check.h"
#include "cuda/context.h"
#include "ithaca/device.h"
#include "ithaca/memory.h"
#include "ithaca/mesh.h"
#include "ithaca/tcp_world.h"

namespace ithaca::cuda {

namespace {

// Threads take the GPU of their rank's number, processes that of their number on the machine, which several must not share.
int choose_gpu(const ProgramSpec& spec, int rank, Comm* const* comms) {
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code != cudaSuccess || count == 0) {
    throw Error(std::string("the program was compiled for CUDA, and CUDA sees no GPU here") +
                (code == cudaSuccess ? "" : std::string(": ") + cudaGetErrorString(code)) +
                "; run it where there is one, or set target: cpu");
  }
  const bool are_processes =
      std::any_of(comms, comms + spec.num_axes, [](const Comm* comm) { return comm && !comm->shares_memory(); });
  const auto number = are_processes ? number_on_machine(Mesh(spec.axes, spec.num_axes).ranks()) : std::nullopt;
  // A launcher may show each process its own GPU alone.
  if (number && count > 1 && *number >= count) {
    throw Error("this is process " + std::to_string(*number) + " of its machine, counted from 0, and CUDA sees " +
                std::to_string(count) + " GPUs here; start at most one process for each GPU");
  }
  return number.value_or(rank) % count;
}

class Gpu final : public Device {
 public:
  Gpu(const ProgramSpec& spec, int rank, Comm* const* comms) : number_(choose_gpu(spec, rank, comms)) {
    use();
    std::size_t free_bytes = 0;
    std::size_t total_bytes = 0;
    check_cuda(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo");
    const std::string numbers = "the device arena needs " + format_bytes(spec.device_bytes) + "; GPU " +
                                std::to_string(number_) + " has " + format_bytes(total_bytes) + ", of which " +
                                format_bytes(free_bytes) + " are free";
    if (spec.device_bytes > free_bytes) {
      throw Error(numbers + ". Shorten the sequence, or set memory.device_limit and let the compiler tile and recompute");
    }
    const cudaError_t code = cudaMalloc(&device_, std::max<std::size_t>(spec.device_bytes, 1));
    if (code != cudaSuccess) throw Error(numbers + ", but cudaMalloc says: " + cudaGetErrorString(code));
    check_cuda(cudaHostAlloc(&host_, std::max<std::size_t>(spec.host_bytes, 1), cudaHostAllocDefault),
               "cudaHostAlloc of " + format_bytes(spec.host_bytes));
    context_ = std::make_unique<Context>(spec, comms);
    const char* graph = std::getenv("ITHACA_CUDA_GRAPH");
    capturable_ = !context_->has_comms() && !(graph && *graph == '0');
  }

  ~Gpu() override {
    cudaSetDevice(number_);
    cudaDeviceSynchronize();
    if (graph_) cudaGraphExecDestroy(graph_);
    context_.reset();
    cudaFree(device_);
    cudaFreeHost(host_);
  }

  std::byte* device() const override { return static_cast<std::byte*>(device_); }
  std::byte* host() const override { return static_cast<std::byte*>(host_); }
  bool is_host_memory() const override { return false; }
  void* context() override { return context_.get(); }
  std::optional<std::uint64_t> bytes_sent() const override { return context_->bytes_sent(); }

  void write(std::byte* to, const void* from, std::size_t bytes) override {
    use();
    check_cuda(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice), "a copy to the GPU");
  }

  void read(void* to, const std::byte* from, std::size_t bytes) override {
    use();
    check_cuda(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost), "a copy from the GPU");
  }

  void run(const LaneSpec& lane, Rank& rank) override {
    use();
    if (rank.trace) return context_->run_traced(lane, rank, *rank.trace);
    // The first step prepares the libraries; the next is captured while it would be issued.
    if (steps_++ > 0 && std::exchange(capturable_, false)) capture(lane, rank);
    if (graph_) {
      check_cuda(cudaGraphLaunch(graph_, context_->compute), "cudaGraphLaunch");
    } else {
      lane.run(rank);
      context_->join();
    }
    context_->synchronize();
  }

 private:
  void use() { check_cuda(cudaSetDevice(number_), "cudaSetDevice"); }

  // Leaves graph_ empty where the step can't be captured: then it goes on being issued.
  void capture(const LaneSpec& lane, Rank& rank) {
    cudaGraph_t graph = nullptr;
    check_cuda(cudaStreamBeginCapture(context_->compute, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    bool issued = true;
    try {
      context_->fork();
      lane.run(rank);
      context_->join();
    } catch (const Error&) {
      issued = false;
    }
    const bool captured = cudaStreamEndCapture(context_->compute, &graph) == cudaSuccess;
    if (!issued || !captured || cudaGraphInstantiate(&graph_, graph, 0) != cudaSuccess) graph_ = nullptr;
    if (graph) cudaGraphDestroy(graph);
    cudaGetLastError();  // what made the capture fail is no fault of the step
  }

  int number_;
  void* device_ = nullptr;
  void* host_ = nullptr;
  std::unique_ptr<Context> context_;
  cudaGraphExec_t graph_ = nullptr;
  bool capturable_ = false;
  long steps_ = 0;
};

}  // namespace

std::unique_ptr<Device> open_gpu(const ProgramSpec& spec, int rank, Comm* const* comms) {
  return std::make_unique<Gpu>(spec, rank, comms);
}

}  // namespace ithaca::cuda

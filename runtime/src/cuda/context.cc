// Streams, events and communicators of one rank.
#include "cuda/context.h"

#include <chrono>
#include <cstdlib>
#include <thread>

#include "cuda/check.h"

namespace ithaca::cuda {

namespace {

constexpr auto kBetweenQueries = std::chrono::microseconds(50);

}  // namespace

Context::Context(const ProgramSpec& spec, Comm* const* comms) {
  for (cudaStream_t* stream : {&compute, &comm, &to_host, &to_device, &to_file, &from_file}) {
    check_cuda(cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  }
  events_.resize(spec.num_events);
  for (cudaEvent_t& event : events_) {
    check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  }
  check_cuda(cudaEventCreateWithFlags(&forked_, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  for (cudaEvent_t& event : joined_) {
    check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  }
  for (int axis = 0; axis < spec.num_axes; ++axis) {
    Comm* host = comms[axis];
    comms_.push_back(!host ? nullptr : host->shares_memory() ? open_shared_comm(*host) : open_nccl_comm(*host));
  }
  const char* synchronous = std::getenv("ITHACA_CUDA_SYNC");
  synchronous_ = synchronous && *synchronous == '1';
}

Context::~Context() {
  for (cudaEvent_t event : events_) cudaEventDestroy(event);
  for (cudaEvent_t event : joined_) cudaEventDestroy(event);
  cudaEventDestroy(forked_);
  for (cudaStream_t stream : {compute, comm, to_host, to_device, to_file, from_file}) cudaStreamDestroy(stream);
}

void Context::wait(cudaStream_t stream, int event) {
  if (trace_) trace_->end(stream);
  check_cuda(cudaStreamWaitEvent(stream, events_[event], 0), "cudaStreamWaitEvent");
}

void Context::signal(cudaStream_t stream, int event) {
  if (trace_) trace_->end(stream);
  check_cuda(cudaEventRecord(events_[event], stream), "cudaEventRecord");
}

void Context::begin(Rank& rank, int step, cudaStream_t stream) {
  if (synchronous_) synchronize();
  if (trace_) trace_->begin(stream, step);
  rank.current_step->store(step, std::memory_order_relaxed);
}

void Context::run_traced(const LaneSpec& lane, Rank& rank, LaneTrace& trace) {
  trace_ = std::make_unique<StreamTrace>(compute);
  fork();
  lane.run(rank);
  trace_->end_all();
  join();
  synchronize();
  trace_->collect(trace);
  trace_.reset();
}

void Context::fork() {
  check_cuda(cudaEventRecord(forked_, compute), "cudaEventRecord");
  for (cudaStream_t other : {comm, to_host, to_device, to_file, from_file}) {
    check_cuda(cudaStreamWaitEvent(other, forked_, 0), "cudaStreamWaitEvent");
  }
}

void Context::join() {
  const cudaStream_t others[] = {comm, to_host, to_device, to_file, from_file};
  for (int i = 0; i < 5; ++i) {
    check_cuda(cudaEventRecord(joined_[i], others[i]), "cudaEventRecord");
    check_cuda(cudaStreamWaitEvent(compute, joined_[i], 0), "cudaStreamWaitEvent");
  }
}

void Context::synchronize() {
  for (cudaStream_t stream : {compute, comm, to_host, to_device, to_file, from_file}) {
    if (is_watched()) watch(stream);
    check_cuda(cudaStreamSynchronize(stream), "the step");
  }
  file.check();
  for (const auto& axis : comms_) {
    if (axis) axis->check();
  }
}

// A collective whose partner is dead never ends: the communicators are asked while it is waited for.
void Context::watch(cudaStream_t stream) {
  for (;;) {
    const cudaError_t code = cudaStreamQuery(stream);
    if (code != cudaErrorNotReady) return check_cuda(code, "the step");
    for (const auto& axis : comms_) {
      if (axis) axis->check();
    }
    std::this_thread::sleep_for(kBetweenQueries);
  }
}

bool Context::is_watched() const {
  for (const auto& axis : comms_) {
    if (axis && axis->is_watched()) return true;
  }
  return false;
}

std::uint64_t Context::bytes_sent() const {
  std::uint64_t total = 0;
  for (const auto& axis : comms_) total += axis ? axis->bytes_sent() : 0;
  return total;
}

bool Context::has_comms() const {
  for (const auto& axis : comms_) {
    if (axis) return true;
  }
  return false;
}

}  // namespace ithaca::cuda

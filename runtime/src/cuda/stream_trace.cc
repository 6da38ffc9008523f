// Timed events, as many as a run of the program has steps.
#include "cuda/stream_trace.h"

#include "cuda/check.h"

namespace ithaca::cuda {

StreamTrace::StreamTrace(cudaStream_t first) { start_ = record(first); }

StreamTrace::~StreamTrace() {
  for (cudaEvent_t event : events_) cudaEventDestroy(event);
}

void StreamTrace::begin(cudaStream_t stream, int step) {
  end(stream);
  under_way_[stream] = spans_.size();
  spans_.push_back({step, record(stream), nullptr});
}

void StreamTrace::end(cudaStream_t stream) {
  const auto found = under_way_.find(stream);
  if (found == under_way_.end()) return;
  spans_[found->second].end = record(stream);
  under_way_.erase(found);
}

void StreamTrace::end_all() {
  while (!under_way_.empty()) end(under_way_.begin()->first);
}

void StreamTrace::collect(LaneTrace& trace) const {
  const auto since_start = [this](cudaEvent_t event) {
    float milliseconds = 0;
    check_cuda(cudaEventElapsedTime(&milliseconds, start_, event), "cudaEventElapsedTime");
    return static_cast<std::int64_t>(static_cast<double>(milliseconds) * 1e6);
  };
  for (const auto& [step, begin, end] : spans_) trace.add({step, since_start(begin), since_start(end)});
}

cudaEvent_t StreamTrace::record(cudaStream_t stream) {
  cudaEvent_t event = nullptr;
  check_cuda(cudaEventCreateWithFlags(&event, cudaEventDefault), "cudaEventCreateWithFlags");
  events_.push_back(event);
  check_cuda(cudaEventRecord(event, stream), "cudaEventRecord");
  return event;
}

}  // namespace ithaca::cuda

// When the steps of a program ran on a GPU, by events around each on its stream.
#pragma once

#include <cuda_runtime_api.h>

#include <map>
#include <vector>

#include "ithaca/trace.h"

namespace ithaca::cuda {

// Of one run of a program. A step lasts from begin() to end(), or to the next begin() on its stream.
class StreamTrace {
 public:
  // Times count from here, on `first`, where nothing is to be under way on any other stream.
  explicit StreamTrace(cudaStream_t first);
  ~StreamTrace();
  StreamTrace(const StreamTrace&) = delete;
  StreamTrace& operator=(const StreamTrace&) = delete;

  void begin(cudaStream_t stream, int step);
  // Ends the step under way on `stream`, if there is one.
  void end(cudaStream_t stream);
  void end_all();
  // Adds all spans to `trace`. Everything must have ended.
  void collect(LaneTrace& trace) const;

 private:
  struct Span {
    int step;
    cudaEvent_t begin, end;
  };
  cudaEvent_t record(cudaStream_t stream);

  cudaEvent_t start_;
  std::vector<Span> spans_;
  std::map<cudaStream_t, std::size_t> under_way_;
  std::vector<cudaEvent_t> events_;
};

}  // namespace ithaca::cuda

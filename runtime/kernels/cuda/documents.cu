// Where packed documents end: each place searches behind itself, in halves.
#include "documents.h"

#include "launch.h"

namespace ithaca::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void ends_kernel(const std::int32_t* segments, std::int32_t* ends, std::int64_t count,
                            std::int64_t sequence) {
  for (std::int64_t place = global_thread(); place < count; place += global_threads()) {
    const std::int64_t begin = place / sequence * sequence;
    std::int64_t low = place + 1, high = begin + sequence;
    while (low < high) {
      const std::int64_t middle = low + (high - low) / 2;
      if (segments[middle] == segments[place])
        low = middle + 1;
      else
        high = middle;
    }
    ends[place] = static_cast<std::int32_t>(low - begin);
  }
}

}  // namespace

void document_ends(const std::int32_t* segments, std::int32_t* ends, std::int64_t batch, std::int64_t sequence,
                   cudaStream_t stream) {
  const std::int64_t count = batch * sequence;
  launch("document_ends", ends_kernel, blocks_for(count, kThreads), dim3(kThreads), 0, stream, segments, ends, count,
         sequence);
}

}  // namespace ithaca::cuda

// Where packed documents end, which is how cuDNN's attention is told of them.
#pragma once

#include <cstdint>

#include "stream.h"

namespace ithaca::cuda {

// ends[b, j] = the first place behind j in a segment other than j's, or `sequence`; i32[batch, sequence] both.
// segments don't decrease along the sequence.
void document_ends(const std::int32_t* segments, std::int32_t* ends, std::int64_t batch, std::int64_t sequence,
                   cudaStream_t stream);

}  // namespace ithaca::cuda

// The device of the CUDA target.
#pragma once

#include <memory>

#include "ithaca/program.h"

namespace ithaca::cuda {

// A GPU of this machine: that of the rank's number among the ranks of this machine. Throws Error where there is no GPU,
// more processes than GPUs, or the program's arena does not fit what is free.
std::unique_ptr<Device> open_gpu(const ProgramSpec& spec, int rank, Comm* const* comms);

}  // namespace ithaca::cuda

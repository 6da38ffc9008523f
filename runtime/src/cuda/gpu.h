// The device of the CUDA target.
#pragma once

#include <memory>

#include "ithaca/program.h"

namespace ithaca::cuda {

// A GPU of this machine: the one with the rank's number on this machine, counted modulo the GPUs that CUDA sees. Throws
// Error where there is no GPU, or the program's arena does not fit what is free.
std::unique_ptr<Device> open_gpu(const ProgramSpec& spec, int rank, Comm* const* comms);

}  // namespace ithaca::cuda

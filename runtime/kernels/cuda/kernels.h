// Every CUDA kernel that a generated program calls, in plain C++: only nvcc needs to see the device code.
//
// Names and parameters are those of kernels/cpu, with a trailing stream. Pointers are the device's unless said
// otherwise, arrays row-major and contiguous; kernels move 16 bytes at a time where base and row length allow it, and
// single elements where not. bf16 is computed and accumulated in f32, NaN and infinity come through, and no result
// depends on the device's number of multiprocessors: what is summed in blocks has blocks of fixed sizes.
#pragma once

#include "attention.h"
#include "copy.h"
#include "embedding.h"
#include "loss.h"
#include "norm.h"
#include "optimizer.h"
#include "reduce.h"
#include "rope.h"
#include "stream.h"

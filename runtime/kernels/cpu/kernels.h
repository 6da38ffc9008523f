// Every CPU kernel; what a generated program includes.
//
// All arrays are row-major, contiguous and 64-byte aligned at their base; sizes may be odd. Kernels use
// omp_get_max_threads() threads of the calling thread, compute and accumulate bf16 in f32, let NaN and
// infinity through, and allocate nothing per step: a kernel that needs scratch takes a `workspace` of
// xxx_workspace_bytes(...) bytes.
#pragma once

#include "attention.h"
#include "copy.h"
#include "elementwise.h"
#include "embedding.h"
#include "exchange.h"
#include "guard.h"
#include "loss.h"
#include "matmul.h"
#include "norm.h"
#include "optimizer.h"
#include "reduce.h"
#include "rope.h"
#include "spill.h"

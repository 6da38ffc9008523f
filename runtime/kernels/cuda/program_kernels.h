// Everything that a generated program calls, in plain C++.
#pragma once

#include "cuda/attention_cudnn.h"
#include "cuda/exchange.h"
#include "cuda/kernels.h"
#include "cuda/matmul.h"
#include "cuda/memory.h"

// Headers that declare kernels' hosts ask for no more than this.
#pragma once

#include "cuda_runtime.h"

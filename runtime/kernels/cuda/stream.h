// The one name that declarations of CUDA kernels need, so that plain C++ can include them without the toolkit.
#pragma once

struct CUstream_st;
using cudaStream_t = CUstream_st*;  // the same as in cuda_runtime_api.h

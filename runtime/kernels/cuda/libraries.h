// NVIDIA's libraries as one rank uses them: their handles, and what they have prepared for each shape.
#pragma once

#include <map>
#include <memory>

#include "stream.h"

// As in cublasLt.h and cudnn_graph.h, which generated code needs not include.
struct cublasLtContext;
struct cudnnContext;

namespace ithaca::cuda {

class MatmulPlans;
class AttentionPlans;

// One for each rank, made with the rank's device current, used by one thread at a time. Nothing is allocated on the
// device: workspaces are the caller's. The first call with a shape prepares it (a matmul: microseconds; an attention:
// about a second, in which cuDNN compiles); later ones allocate nothing.
class Libraries {
 public:
  Libraries();
  ~Libraries();
  Libraries(const Libraries&) = delete;
  Libraries& operator=(const Libraries&) = delete;

  cublasLtContext* blas() const { return blas_; }
  // The handle that works on `stream`.
  cudnnContext* dnn(cudaStream_t stream);

  MatmulPlans& matmuls() { return *matmuls_; }
  AttentionPlans& attentions() { return *attentions_; }

 private:
  cublasLtContext* blas_ = nullptr;
  std::map<cudaStream_t, cudnnContext*> dnn_;
  std::unique_ptr<MatmulPlans> matmuls_;
  std::unique_ptr<AttentionPlans> attentions_;
};

}  // namespace ithaca::cuda

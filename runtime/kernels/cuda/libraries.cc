// The handles of NVIDIA's libraries.
#include "libraries.h"

#include <cublasLt.h>
#include <cudnn_graph.h>

#include "attention_plans.h"
#include "dnn_graph.h"
#include "ithaca/error.h"
#include "matmul_plans.h"

namespace ithaca::cuda {

Libraries::Libraries()
    : matmuls_(std::make_unique<MatmulPlans>()), attentions_(std::make_unique<AttentionPlans>()) {
  const cublasStatus_t status = cublasLtCreate(&blas_);
  if (status != CUBLAS_STATUS_SUCCESS) fail("cublasLtCreate failed: ", cublasLtGetStatusString(status));
}

Libraries::~Libraries() {
  for (const auto& [stream, handle] : dnn_) cudnnDestroy(handle);
  if (blas_ != nullptr) cublasLtDestroy(blas_);
}

cudnnContext* Libraries::dnn(cudaStream_t stream) {
  cudnnContext*& handle = dnn_[stream];
  if (handle == nullptr) {
    dnn::check(cudnnCreate(&handle), "cudnnCreate", "start-up");
    dnn::check(cudnnSetStream(handle, stream), "cudnnSetStream", "start-up");
  }
  return handle;
}

}  // namespace ithaca::cuda

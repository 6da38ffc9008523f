// Attention by cuDNN's fused kernels.
#include "attention_cudnn.h"

#include <cublasLt.h>

#include <array>

#include "attention_plans.h"
#include "ithaca/error.h"
#include "matmul_plans.h"

namespace ithaca::cuda {
namespace {

void check(cublasStatus_t status, const char* call) {
  if (status != CUBLAS_STATUS_SUCCESS) fail("attention: ", call, " failed: ", cublasLtGetStatusString(status));
}

// from f32[batch, rows, columns] to f32[batch, columns, rows].
void transpose(Libraries& libraries, const float* from, float* to, std::int64_t batch, std::int64_t rows,
               std::int64_t columns, cudaStream_t stream) {
  const auto layout = [&](std::int64_t height, std::int64_t width) {
    cublasLtMatrixLayout_t made = nullptr;
    check(cublasLtMatrixLayoutCreate(&made, CUDA_R_32F, static_cast<std::uint64_t>(width),
                                     static_cast<std::uint64_t>(height), width),
          "cublasLtMatrixLayoutCreate");
    const auto count = static_cast<std::int32_t>(batch);
    const std::int64_t stride = rows * columns;
    check(cublasLtMatrixLayoutSetAttribute(made, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count),
          "BATCH_COUNT");
    check(cublasLtMatrixLayoutSetAttribute(made, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride),
          "STRIDED_BATCH_OFFSET");
    return BlasLayout(made);
  };
  const BlasLayout source = layout(rows, columns), target = layout(columns, rows);
  cublasLtMatrixTransformDesc_t made = nullptr;
  check(cublasLtMatrixTransformDescCreate(&made, CUDA_R_32F), "cublasLtMatrixTransformDescCreate");
  const std::unique_ptr<cublasLtMatrixTransformDescOpaque_t,
                        BlasDestroy<cublasLtMatrixTransformDescOpaque_t, cublasLtMatrixTransformDescDestroy>>
      transform(made);
  const cublasOperation_t turn = CUBLAS_OP_T;
  check(cublasLtMatrixTransformDescSetAttribute(made, CUBLASLT_MATRIX_TRANSFORM_DESC_TRANSA, &turn, sizeof turn),
        "TRANSA");
  const float one = 1.0f, zero = 0.0f;
  check(cublasLtMatrixTransform(libraries.blas(), made, &one, from, source.get(), &zero, nullptr, nullptr, to,
                                target.get(), stream),
        "cublasLtMatrixTransform");
}

void require_workspace(const char* name, std::size_t given, std::size_t needed) {
  if (given < needed) fail(name, ": a workspace of ", given, " bytes is given, ", needed, " are needed");
}

// cuDNN reads its inputs by pointers that are not const.
void* input(const void* pointer) { return const_cast<void*>(pointer); }

}  // namespace

AttentionGraph& AttentionPlans::forward(cudnnHandle_t handle, const AttentionShape& shape) {
  const auto known = forward_.find(shape);
  if (known != forward_.end()) return known->second;
  const std::size_t limit = attention_library_bytes(shape);
  return forward_.emplace(shape, attention_graph(shape, dnn::Target(handle), limit)).first->second;
}

AttentionGradGraph& AttentionPlans::backward(cudnnHandle_t handle, const AttentionShape& shape) {
  const auto known = backward_.find(shape);
  if (known != backward_.end()) return known->second;
  const AttentionShape part = attention_grad_part(shape);
  const std::size_t limit = attention_grad_library_bytes(part);
  return backward_.emplace(shape, attention_grad_graph(part, shape, dnn::Target(handle), limit)).first->second;
}

void attention(Libraries& libraries, const AttentionShape& s, const bf16* q, const bf16* k, const bf16* v, bf16* out,
               float* lse, void* workspace, std::size_t workspace_bytes, cudaStream_t stream) {
  require_workspace("attention", workspace_bytes, attention_workspace_bytes(s));
  cudnnHandle_t handle = libraries.dnn(stream);
  AttentionGraph& graph = libraries.attentions().forward(handle, s);
  auto* stats = static_cast<float*>(workspace);
  auto* rest = static_cast<std::byte*>(workspace) + attention_rows_bytes(s);
  graph.plan.run(handle,
                 std::array<dnn::Binding, 5>{{{graph.q, input(q)},
                                              {graph.k, input(k)},
                                              {graph.v, input(v)},
                                              {graph.out, out},
                                              {graph.stats, stats}}},
                 rest);
  transpose(libraries, stats, lse, s.batch, s.heads, s.sequence_q, stream);
}

void attention_grad(Libraries& libraries, const AttentionShape& s, const bf16* q, const bf16* k, const bf16* v,
                    const bf16* out, const float* lse, const bf16* d_out, bf16* dq, bf16* dk, bf16* dv,
                    void* workspace, std::size_t workspace_bytes, cudaStream_t stream) {
  require_workspace("attention_grad", workspace_bytes, attention_grad_workspace_bytes(s));
  cudnnHandle_t handle = libraries.dnn(stream);
  AttentionGradGraph& graph = libraries.attentions().backward(handle, s);
  const AttentionShape part = attention_grad_part(s);
  auto* stats = static_cast<float*>(workspace);
  std::byte* out_sums = static_cast<std::byte*>(workspace) + attention_rows_bytes(s);
  std::byte* dq_sum = out_sums + attention_rows_bytes(part);
  std::byte* rest = dq_sum + attention_dq_bytes(part);
  transpose(libraries, lse, stats, s.batch, s.sequence_q, s.heads, stream);
  for (std::int64_t b = 0; b < s.batch; b += part.batch)
    for (std::int64_t g = 0; g < s.kv_heads; g += part.kv_heads) {
      const std::int64_t h = g * (s.heads / s.kv_heads);
      const std::int64_t query = (b * s.sequence_q * s.heads + h) * s.head_dim;
      const std::int64_t key = (b * s.sequence_kv * s.kv_heads + g) * s.head_dim;
      graph.plan.run(handle,
                     std::array<dnn::Binding, 11>{{{graph.q, input(q + query)},
                                                   {graph.k, input(k + key)},
                                                   {graph.v, input(v + key)},
                                                   {graph.out, input(out + query)},
                                                   {graph.stats, stats + (b * s.heads + h) * s.sequence_q},
                                                   {graph.d_out, input(d_out + query)},
                                                   {graph.dq, dq + query},
                                                   {graph.dk, dk + key},
                                                   {graph.dv, dv + key},
                                                   {graph.dq_sum, dq_sum},
                                                   {graph.out_sums, out_sums}}},
                     rest);
    }
}

}  // namespace ithaca::cuda

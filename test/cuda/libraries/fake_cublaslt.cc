// Takes the place of cuBLASLt: the calls that Ithaca makes, with their meaning, on memory of this machine.
#include <cublasLt.h>

#include <cstdint>
#include <cstring>
#include <map>

#include "calls.h"
#include "ithaca/dtype.h"
#include "ithaca/error.h"

namespace {

using ithaca::bf16;

struct Layout {
  cudaDataType type;
  std::int64_t rows, columns, ld;
};
struct Product {
  cublasOperation_t a = CUBLAS_OP_N, b = CUBLAS_OP_N;
};
using Preference = std::map<int, std::uint64_t>;

template <typename T, typename Opaque>
T& own(Opaque* opaque) {
  return *reinterpret_cast<T*>(opaque);
}
template <typename T, typename Opaque>
const T& own(const Opaque* opaque) {
  return *reinterpret_cast<const T*>(opaque);
}

// Columns lie behind each other, `ld` apart.
double at(const void* data, const Layout& layout, std::int64_t row, std::int64_t column) {
  const std::int64_t i = row + column * layout.ld;
  return layout.type == CUDA_R_16BF ? static_cast<double>(static_cast<float>(static_cast<const bf16*>(data)[i]))
                                    : static_cast<double>(static_cast<const float*>(data)[i]);
}
void put(void* data, const Layout& layout, std::int64_t row, std::int64_t column, double value) {
  const std::int64_t i = row + column * layout.ld;
  const auto rounded = static_cast<float>(value);
  if (layout.type == CUDA_R_16BF)
    static_cast<bf16*>(data)[i] = ithaca::to_bf16(rounded);
  else
    static_cast<float*>(data)[i] = rounded;
}

constexpr std::size_t kUsed = 4096;  // of the workspace

}  // namespace

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = reinterpret_cast<cublasLtHandle_t>(new int);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete reinterpret_cast<int*>(handle);
  return CUBLAS_STATUS_SUCCESS;
}
const char* cublasLtGetStatusString(cublasStatus_t) { return "as the stand-in says"; }

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, std::uint64_t rows,
                                          std::uint64_t columns, std::int64_t ld) {
  const auto [height, width] = std::pair{static_cast<std::int64_t>(rows), static_cast<std::int64_t>(columns)};
  if (ld < height) return CUBLAS_STATUS_INVALID_VALUE;
  *layout = reinterpret_cast<cublasLtMatrixLayout_t>(new Layout{type, height, width, ld});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete &own<Layout>(layout);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* product, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  // f32 without TF32 in the products, f32 in the sums.
  if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  *product = reinterpret_cast<cublasLtMatmulDesc_t>(new Product);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t product) {
  delete &own<Product>(product);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t name,
                                              const void* value, std::size_t bytes) {
  if (bytes != sizeof(cublasOperation_t)) return CUBLAS_STATUS_INVALID_VALUE;
  auto& to = name == CUBLASLT_MATMUL_DESC_TRANSA ? own<Product>(product).a : own<Product>(product).b;
  std::memcpy(&to, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = reinterpret_cast<cublasLtMatmulPreference_t>(new Preference);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete &own<Preference>(preference);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t name, const void* value,
                                                    std::size_t bytes) {
  std::uint64_t number = 0;
  std::memcpy(&number, value, bytes);
  own<Preference>(preference)[name] = number;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t* results, int* count) {
  const std::uint64_t most = own<Preference>(preference).at(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
  *count = requested > 0 && most >= kUsed ? 1 : 0;
  if (*count == 0) return CUBLAS_STATUS_NOT_SUPPORTED;
  results[0] = {};
  results[0].state = CUBLAS_STATUS_SUCCESS;
  results[0].workspaceSize = kUsed;
  // The alignments that were promised, for the product to check.
  const auto promised = [&](auto name) { return own<Preference>(preference).at(name); };
  results[0].algo.data[0] = promised(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
  results[0].algo.data[1] = promised(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES);
  results[0].algo.data[2] = promised(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
  ++ithaca::test::library_plans;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t product, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t layout_a, const void* b, cublasLtMatrixLayout_t layout_b,
                              const void* beta, const void* c, cublasLtMatrixLayout_t layout_c, void* d,
                              cublasLtMatrixLayout_t layout_d, const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              std::size_t workspace_bytes, cudaStream_t stream) {
  const auto &la = own<Layout>(layout_a), &lb = own<Layout>(layout_b), &lc = own<Layout>(layout_c),
             &ld = own<Layout>(layout_d);
  const auto& [of_a, of_b] = own<Product>(product);
  const std::int64_t depth = of_a == CUBLAS_OP_N ? la.columns : la.rows;
  if ((of_a == CUBLAS_OP_N ? la.rows : la.columns) != ld.rows ||
      (of_b == CUBLAS_OP_N ? lb.columns : lb.rows) != ld.columns ||
      (of_b == CUBLAS_OP_N ? lb.rows : lb.columns) != depth || workspace_bytes < kUsed)
    return CUBLAS_STATUS_INVALID_VALUE;
  const void* pointers[] = {a, b, d};
  for (int i = 0; i < 3; ++i)
    if (reinterpret_cast<std::uintptr_t>(pointers[i]) % algorithm->data[i] != 0) return CUBLAS_STATUS_INVALID_VALUE;
  const auto scale = static_cast<double>(*static_cast<const float*>(alpha));
  const auto before = static_cast<double>(*static_cast<const float*>(beta));
  for (std::int64_t column = 0; column < ld.columns; ++column)
    for (std::int64_t row = 0; row < ld.rows; ++row) {
      double sum = 0;
      for (std::int64_t k = 0; k < depth; ++k)
        sum += (of_a == CUBLAS_OP_N ? at(a, la, row, k) : at(a, la, k, row)) *
               (of_b == CUBLAS_OP_N ? at(b, lb, k, column) : at(b, lb, column, k));
      put(d, ld, row, column, scale * sum + (before == 0 ? 0 : before * at(c, lc, row, column)));
    }
  std::memset(workspace, 0xff, kUsed);
  ithaca::test::library_calls.push_back({"cublasLtMatmul", stream, workspace, kUsed, {a, b}, {d}});
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"

// Matrix products by cuBLASLt.
//
// cuBLASLt stores columns. A row-major matrix is its transpose to it, so c = op(a) op(b) is asked for as
// c' = op(b)' op(a)': the operands change places, and M and N with them.
#include "matmul.h"

#include <algorithm>
#include <type_traits>

#include "ithaca/dtype.h"
#include "ithaca/error.h"
#include "matmul_plans.h"

namespace ithaca::cuda {
namespace {

const char* name_of(cudaDataType_t type) { return type == CUDA_R_16BF ? "bf16" : "f32"; }

void check(cublasStatus_t status, const char* call, const MatmulShape& s) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  fail("matmul of ", name_of(s.in), '[', s.M, ", ", s.K, "] by [", s.K, ", ", s.N, "] into ", name_of(s.out),
       s.transpose_a ? ", first transposed" : "", s.transpose_b ? ", second transposed" : "",
       s.accumulate ? ", added" : "", ": ", call, " failed: ", cublasLtGetStatusString(status));
}

// A row-major matrix of `rows` rows, for cuBLASLt.
BlasLayout layout(const MatmulShape& s, cudaDataType_t type, std::int64_t rows, std::int64_t columns) {
  cublasLtMatrixLayout_t made = nullptr;
  check(cublasLtMatrixLayoutCreate(&made, type, static_cast<std::uint64_t>(columns), static_cast<std::uint64_t>(rows),
                                   columns),
        "cublasLtMatrixLayoutCreate", s);
  return BlasLayout(made);
}

BlasProduct product(const MatmulShape& s) {
  cublasLtMatmulDesc_t made = nullptr;
  check(cublasLtMatmulDescCreate(&made, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate", s);
  BlasProduct product(made);
  const cublasOperation_t of_b = s.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cublasOperation_t of_a = s.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
  check(cublasLtMatmulDescSetAttribute(made, CUBLASLT_MATMUL_DESC_TRANSA, &of_b, sizeof of_b), "TRANSA", s);
  check(cublasLtMatmulDescSetAttribute(made, CUBLASLT_MATMUL_DESC_TRANSB, &of_a, sizeof of_a), "TRANSB", s);
  return product;
}

struct DestroyPreference {
  void operator()(cublasLtMatmulPreferenceOpaque_t* preference) const { cublasLtMatmulPreferenceDestroy(preference); }
};

void choose(cublasLtHandle_t handle, const MatmulShape& s, MatmulPlan& plan) {
  cublasLtMatmulPreference_t raw = nullptr;
  check(cublasLtMatmulPreferenceCreate(&raw), "cublasLtMatmulPreferenceCreate", s);
  const std::unique_ptr<cublasLtMatmulPreferenceOpaque_t, DestroyPreference> preference(raw);
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t name, const auto& value) {
    check(cublasLtMatmulPreferenceSetAttribute(raw, name, &value, sizeof value), "cublasLtMatmulPreferenceSetAttribute",
          s);
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(s.workspace_bytes));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, s.align_b);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, s.align_a);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, s.align_c);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, s.align_c);
  cublasLtMatmulHeuristicResult_t found{};
  int count = 0;
  check(cublasLtMatmulAlgoGetHeuristic(handle, plan.product.get(), plan.b.get(), plan.a.get(), plan.c.get(),
                                       plan.c.get(), raw, 1, &found, &count),
        "cublasLtMatmulAlgoGetHeuristic", s);
  if (count == 0) check(CUBLAS_STATUS_NOT_SUPPORTED, "cublasLtMatmulAlgoGetHeuristic", s);
  check(found.state, "cublasLtMatmulAlgoGetHeuristic", s);
  plan.algorithm = found.algo;
  plan.workspace_bytes = found.workspaceSize;
}

std::uint32_t alignment(const void* pointer) {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  return static_cast<std::uint32_t>(std::min<std::uintptr_t>(256, address & (~address + 1)));
}

template <typename T>
constexpr cudaDataType_t type_of = std::is_same_v<T, bf16> ? CUDA_R_16BF : CUDA_R_32F;

}  // namespace

const MatmulPlan& MatmulPlans::of(cublasLtHandle_t handle, const MatmulShape& s) {
  const auto known = plans_.find(s);
  if (known != plans_.end()) return known->second;
  MatmulPlan plan{product(s),
                  s.transpose_a ? layout(s, s.in, s.K, s.M) : layout(s, s.in, s.M, s.K),
                  s.transpose_b ? layout(s, s.in, s.N, s.K) : layout(s, s.in, s.K, s.N),
                  layout(s, s.out, s.M, s.N),
                  {},
                  0};
  choose(handle, s, plan);
  return plans_.emplace(s, std::move(plan)).first->second;
}

template <typename T, typename O>
void matmul(Libraries& libraries, const T* a, const T* b, O* c, std::int64_t M, std::int64_t N, std::int64_t K,
            bool transpose_a, bool transpose_b, bool accumulate, void* workspace, std::size_t workspace_bytes,
            cudaStream_t stream) {
  if (M == 0 || N == 0) return;
  const MatmulShape shape{M,          N,          K,           transpose_a,  transpose_b,  accumulate,
                          type_of<T>, type_of<O>, alignment(a), alignment(b), alignment(c), workspace_bytes};
  if (K == 0) fail("matmul: [", M, ", 0] x [0, ", N, "] has nothing to sum over");
  const MatmulPlan& plan = libraries.matmuls().of(libraries.blas(), shape);
  const float one = 1.0f;
  const float before = accumulate ? 1.0f : 0.0f;
  check(cublasLtMatmul(libraries.blas(), plan.product.get(), &one, b, plan.b.get(), a, plan.a.get(), &before, c,
                       plan.c.get(), c, plan.c.get(), &plan.algorithm, workspace, plan.workspace_bytes, stream),
        "cublasLtMatmul", shape);
}

#define ITHACA_INSTANTIATE(T, O)                                                                                     \
  template void matmul(Libraries&, const T*, const T*, O*, std::int64_t, std::int64_t, std::int64_t, bool, bool, bool, \
                       void*, std::size_t, cudaStream_t);
ITHACA_INSTANTIATE(float, float)
ITHACA_INSTANTIATE(bf16, bf16)
ITHACA_INSTANTIATE(bf16, float)
#undef ITHACA_INSTANTIATE

}  // namespace ithaca::cuda

// What cuBLASLt has prepared for the products of one rank.
#pragma once

#include <cublasLt.h>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>

namespace ithaca::cuda {

// Everything that the choice of an algorithm depends on. Alignments are powers of two up to 256, in bytes.
struct MatmulShape {
  std::int64_t M, N, K;
  bool transpose_a, transpose_b, accumulate;
  cudaDataType_t in, out;
  std::uint32_t align_a, align_b, align_c;
  std::size_t workspace_bytes;

  auto operator<=>(const MatmulShape&) const = default;
};

// Owns a descriptor of cuBLASLt's, all of which are pointers to opaque structs.
template <typename T, cublasStatus_t (*destroy)(T*)>
struct BlasDestroy {
  void operator()(T* descriptor) const { destroy(descriptor); }
};
using BlasLayout = std::unique_ptr<cublasLtMatrixLayoutOpaque_t,
                                   BlasDestroy<cublasLtMatrixLayoutOpaque_t, cublasLtMatrixLayoutDestroy>>;
using BlasProduct =
    std::unique_ptr<cublasLtMatmulDescOpaque_t, BlasDestroy<cublasLtMatmulDescOpaque_t, cublasLtMatmulDescDestroy>>;

// A product of one shape, ready to run.
struct MatmulPlan {
  BlasProduct product;
  BlasLayout a, b, c;
  cublasLtMatmulAlgo_t algorithm;
  std::size_t workspace_bytes;  // what this algorithm uses
};

class MatmulPlans {
 public:
  const MatmulPlan& of(cublasLtHandle_t handle, const MatmulShape& shape);

 private:
  std::map<MatmulShape, MatmulPlan> plans_;
};

}  // namespace ithaca::cuda

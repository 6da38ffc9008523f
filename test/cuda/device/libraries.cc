// Takes the place of NVIDIA's libraries: the same products and the same attention, by plain loops and our own kernels.
#include "cuda/libraries.h"

#include <algorithm>

#include <cstdint>
#include <string>

#include "cuda/attention.h"
#include "cuda/attention_cudnn.h"
#include "cuda/matmul.h"
#include "device.h"
#include "ithaca/error.h"

namespace ithaca::cuda {

class MatmulPlans {};
class AttentionPlans {};

Libraries::Libraries() = default;
Libraries::~Libraries() = default;

namespace {

float number(float x) { return x; }
float number(bf16 x) { return static_cast<float>(x); }
void store(float* to, float x) { *to = x; }
void store(bf16* to, float x) { *to = to_bf16(x); }

void require_workspace(const char* what, const void* workspace, std::size_t given, std::size_t needed) {
  if (given < needed) {
    throw Error(std::string(what) + " has a workspace of " + std::to_string(given) + " bytes and may need " +
                std::to_string(needed));
  }
  device::require_allocated(what, workspace, given);
}

}  // namespace

template <typename T, typename O>
void matmul(Libraries&, const T* a, const T* b, O* c, std::int64_t M, std::int64_t N, std::int64_t K, bool transpose_a,
            bool transpose_b, bool accumulate, void* workspace, std::size_t workspace_bytes, cudaStream_t stream) {
  require_workspace("matmul", workspace, workspace_bytes, kMatmulWorkspaceBytes);
  const std::vector<device::Touch> touches = {{'r', a, M * K * sizeof(T)},
                                              {'r', b, K * N * sizeof(T)},
                                              {'w', c, M * N * sizeof(O)},
                                              {'w', workspace, workspace_bytes}};
  device::enqueue(stream, "matmul", touches, [=] {
    for (std::int64_t m = 0; m < M; ++m) {
      for (std::int64_t n = 0; n < N; ++n) {
        double sum = accumulate ? number(c[m * N + n]) : 0.0;
        for (std::int64_t k = 0; k < K; ++k) {
          sum += static_cast<double>(number(transpose_a ? a[k * M + m] : a[m * K + k])) *
                 number(transpose_b ? b[n * K + k] : b[k * N + n]);
        }
        store(c + m * N + n, static_cast<float>(sum));
      }
    }
    // A library may leave anything there.
    std::fill_n(static_cast<std::uint8_t*>(workspace), 4096, 0xff);
  });
}

template void matmul<float, float>(Libraries&, const float*, const float*, float*, std::int64_t, std::int64_t,
                                   std::int64_t, bool, bool, bool, void*, std::size_t, cudaStream_t);
template void matmul<bf16, bf16>(Libraries&, const bf16*, const bf16*, bf16*, std::int64_t, std::int64_t,
                                 std::int64_t, bool, bool, bool, void*, std::size_t, cudaStream_t);
template void matmul<bf16, float>(Libraries&, const bf16*, const bf16*, float*, std::int64_t, std::int64_t,
                                  std::int64_t, bool, bool, bool, void*, std::size_t, cudaStream_t);

void attention(Libraries&, const AttentionShape& shape, const bf16* q, const bf16* k, const bf16* v,
               const std::int32_t* segments, bf16* out, float* lse, void* workspace, cudaStream_t stream) {
  device::require_allocated("attention", workspace, attention_workspace_bytes(shape));
  plain::attention(shape, q, k, v, segments, out, lse, nullptr, stream);
}

void attention_grad(Libraries&, const AttentionShape& shape, const bf16* q, const bf16* k, const bf16* v,
                    const std::int32_t* segments, const bf16* out, const float* lse, const bf16* d_out, bf16* dq,
                    bf16* dk, bf16* dv, void* workspace, cudaStream_t stream) {
  device::require_allocated("attention_grad", workspace, attention_grad_workspace_bytes(shape));
  plain::attention_grad(shape, q, k, v, segments, out, lse, d_out, dq, dk, dv, workspace, stream);
}

}  // namespace ithaca::cuda

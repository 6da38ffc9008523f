// Which engine multiplies a product.
#include "matmul.h"

#include "bf16_products.h"
#include "ithaca/error.h"
#include "product_amx.h"
#include "product_vector.h"

namespace ithaca::cpu {
namespace {

// Calls run.template operator()<Engine>().
template <typename T, typename Run>
void with_product_engine(const Run& run) {
  if constexpr (sizeof(T) == sizeof(bf16)) {
    switch (bf16_products()) {
#if defined(ITHACA_AMX)
      case Bf16Products::amx: return run.template operator()<TileEngine>();
#endif
#if defined(ITHACA_BF16)
      case Bf16Products::dot: return run.template operator()<VectorEngine<PairUnits>>();
#endif
      default: break;
    }
  }
  run.template operator()<VectorEngine<FloatUnits<T>>>();
}

}  // namespace

template <typename T, typename O>
void matmul(const T* a, const T* b, O* c, std::int64_t M, std::int64_t N, std::int64_t K, bool transpose_a,
            bool transpose_b, bool accumulate, void* workspace) {
  if (M == 0 || N == 0) return;
  if (K == 0) fail("matmul: [", M, ", 0] x [0, ", N, "] has nothing to sum over");
  with_product_engine<T>([&]<typename Engine>() {
    multiply<Engine>(a, b, c, M, N, K, transpose_a, transpose_b, accumulate, workspace);
  });
}

#define ITHACA_INSTANTIATE(T, O)                                                                                  \
  template void matmul(const T*, const T*, O*, std::int64_t, std::int64_t, std::int64_t, bool, bool, bool, void*);
ITHACA_INSTANTIATE(float, float)
ITHACA_INSTANTIATE(bf16, bf16)
ITHACA_INSTANTIATE(bf16, float)
#undef ITHACA_INSTANTIATE

}  // namespace ithaca::cpu

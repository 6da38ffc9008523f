// What the CPU grants a process.
#include "bf16_products.h"

#include <algorithm>
#include <atomic>

#include "bf16_vector.h"

namespace ithaca::cpu {
namespace {

Bf16Products available() {
#if defined(ITHACA_AMX)
  if (amx_granted()) return Bf16Products::amx;
#endif
#if defined(ITHACA_BF16)
  return Bf16Products::dot;
#else
  return Bf16Products::f32;
#endif
}

std::atomic<Bf16Products> allowed = Bf16Products::amx;

}  // namespace

Bf16Products bf16_products() {
  static const Bf16Products most = available();
  return std::min(most, allowed.load(std::memory_order_relaxed));
}

void allow_bf16_products(Bf16Products most) { allowed = most; }

}  // namespace ithaca::cpu

// Picks the engine that attention runs on: by element type, and for bf16 by what the CPU has.
#pragma once

#include <type_traits>

#include "attention.h"
#include "attention_bf16.h"
#include "attention_f32.h"
#include "bf16_products.h"

namespace ithaca::cpu {

// Calls run.template operator()<Engine>().
template <typename T, typename Run>
void with_engine(const Run& run) {
#if defined(ITHACA_BF16)
  if constexpr (std::is_same_v<T, bf16>) {
    switch (bf16_products()) {
      case Bf16Products::amx: return run.template operator()<Bf16Engine<true>>();
      case Bf16Products::dot: return run.template operator()<Bf16Engine<false>>();
      case Bf16Products::f32: break;
    }
  }
#endif
  run.template operator()<F32Engine<T>>();
}

}  // namespace ithaca::cpu

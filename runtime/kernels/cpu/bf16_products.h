// How a CPU multiplies bf16.
#pragma once

#include <cstdint>

namespace ithaca::cpu {

// In f32 after conversion, by dot products of pairs (AVX512_BF16), or by tiles (AMX); each kind better than the last.
enum class Bf16Products : std::uint8_t { f32, dot, amx };

// How bf16 is multiplied here; allow_bf16_products allows no more than the given kind, for tests.
Bf16Products bf16_products();
void allow_bf16_products(Bf16Products most);

}  // namespace ithaca::cpu

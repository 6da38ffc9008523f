// How a CPU multiplies bf16.
#pragma once

#include <cstdint>

namespace ithaca::cpu {

// In f32 after conversion, by dot products of pairs (AVX512_BF16), or by tiles (AMX); each kind better than the last.
enum class Bf16Products : std::uint8_t { f32, dot, amx };

}  // namespace ithaca::cpu

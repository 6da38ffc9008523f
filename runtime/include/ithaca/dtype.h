// The element types of tensors, and bfloat16 as a value.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace ithaca {

enum class DType : std::uint8_t { f32, bf16, i32 };

// Bytes of one element.
constexpr std::size_t dtype_bytes(DType dtype) { return dtype == DType::bf16 ? 2 : 4; }

constexpr const char* dtype_name(DType dtype) {
  return dtype == DType::f32 ? "f32" : dtype == DType::bf16 ? "bf16" : "i32";
}

// The upper half of a float. It is a storage type: arithmetic happens in float.
struct bf16 {
  std::uint16_t bits;

  constexpr operator float() const { return std::bit_cast<float>(std::uint32_t{bits} << 16); }
};

// What elements of the C++ type T are.
template <typename T>
inline constexpr DType dtype_of = DType::f32;
template <>
inline constexpr DType dtype_of<bf16> = DType::bf16;
template <>
inline constexpr DType dtype_of<std::int32_t> = DType::i32;

// Rounds to nearest, ties to even; NaN stays NaN. Branch-free, so that loops over it vectorise.
constexpr bf16 to_bf16(float value) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  const std::uint32_t quiet_nan = (u >> 16) | 0x40u;
  const bool is_nan = (u & 0x7fffffffu) > 0x7f800000u;
  return bf16{static_cast<std::uint16_t>(is_nan ? quiet_nan : rounded)};
}

template <typename T>
constexpr T from_float(float value);
template <>
constexpr float from_float<float>(float value) {
  return value;
}
template <>
constexpr bf16 from_float<bf16>(float value) {
  return to_bf16(value);
}

}  // namespace ithaca

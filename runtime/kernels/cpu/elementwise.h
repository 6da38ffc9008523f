// Float mathematics for fused elementwise loops: branch-free inline functions that g++ -O3 vectorises.
//
// exp, log, tanh, erf follow Cephes (S. Moshier) and are within 2 to 4 ulp of the exact value; NaN gives NaN.
// Qualify them (ithaca::cpu::exp) or call them from inside the namespace: the global namespace has C's.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "ithaca/dtype.h"

namespace ithaca::cpu {

inline float load(const float* x) { return *x; }
inline float load(const bf16* x) { return *x; }
inline void store(float* y, float value) { *y = value; }
inline void store(bf16* y, float value) { *y = to_bf16(value); }

inline float exp(float x) {
  // Comparisons in this order keep a NaN; beyond the clamps the two factors below give 0 or infinity.
  x = x < -105.0f ? -105.0f : x;
  x = x > 89.0f ? 89.0f : x;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves round(x) in the low mantissa bits
  const float shifted = x * 1.44269504088896341f + kRound;
  const float n = shifted - kRound;
  float r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  // 2^n in two factors, each a normal number, so that denormal results and overflow come out right.
  const std::int32_t exponent = std::bit_cast<std::int32_t>(shifted) - std::bit_cast<std::int32_t>(kRound);
  const std::int32_t half = exponent >> 1;
  const std::int32_t rest = exponent - half;
  const float first = std::bit_cast<float>(static_cast<std::uint32_t>(half + 127) << 23);
  const float second = std::bit_cast<float>(static_cast<std::uint32_t>(rest + 127) << 23);
  return p * first * second;
}

inline float log(float x) {
  const bool denormal = x < 1.17549435e-38f;
  const float scaled = denormal ? x * 8388608.0f : x;
  const std::int32_t bits = std::bit_cast<std::int32_t>(scaled);
  const std::int32_t exponent = (bits - 0x3f3504f3) >> 23;
  // The mantissa, in [sqrt(1/2), sqrt(2)), less one.
  const auto power = static_cast<std::int32_t>(static_cast<std::uint32_t>(exponent) << 23);
  const float m = std::bit_cast<float>(bits - power) - 1.0f;
  const float e = static_cast<float>(exponent) - (denormal ? 23.0f : 0.0f);
  float p = 7.0376836292e-2f;
  p = p * m - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  const float square = m * m;
  float y = square * m * p;
  y = y - e * 2.12194440e-4f;
  y = y - 0.5f * square;
  y = m + y + e * 0.693359375f;
  y = x == INFINITY ? INFINITY : y;
  y = x == 0.0f ? -INFINITY : y;
  return x >= 0.0f ? y : NAN;
}

inline float sqrt(float x) { return std::sqrt(x); }
inline float rsqrt(float x) { return 1.0f / std::sqrt(x); }
inline float abs(float x) { return std::fabs(x); }
inline float relu(float x) { return x < 0.0f ? 0.0f : x; }
inline float sigmoid(float x) { return 1.0f / (1.0f + exp(-x)); }

inline float tanh(float x) {
  const float magnitude = std::fabs(x);
  const float z = x * x;
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const float small = p * z * x + x;
  const float large = std::copysign(1.0f - 2.0f / (exp(2.0f * magnitude) + 1.0f), x);
  return magnitude < 0.625f ? small : large;
}

// Rational approximation on [-3.83, 3.83], beyond which erf rounds to 1 (the coefficients are XLA's).
inline float erf(float x) {
  float c = x < -3.832506856900711f ? -3.832506856900711f : x;
  c = c > 3.832506856900711f ? 3.832506856900711f : c;
  const float z = c * c;
  float p = 0.00022905065861350646f;
  p = p * z + 0.0034082910107109506f;
  p = p * z + 0.050955695062380861f;
  p = p * z + 0.18520832239976145f;
  p = p * z + 1.128379143519084f;
  float q = -1.1791602954361697e-7f;
  q = q * z + 0.000023547966471313185f;
  q = q * z + 0.0010179625278914885f;
  q = q * z + 0.014070470171167667f;
  q = q * z + 0.11098505178285362f;
  q = q * z + 0.49746925110067538f;
  q = q * z + 1.0f;
  return c * p / q;
}

// silu(x) = x sigmoid(x).
inline float silu(float x) { return x / (1.0f + exp(-x)); }
inline float silu_grad(float x) {
  const float s = sigmoid(x);
  return s + s * x * (1.0f - s);
}

// gelu(x) = x Phi(x), exactly (gelu) and by tanh (gelu_tanh, "gelu_pytorch_tanh").
inline float gelu(float x) { return 0.5f * x * (1.0f + erf(x * 0.707106781186547524f)); }
inline float gelu_grad(float x) {
  const float density = 0.398942280401432678f * exp(-0.5f * x * x);
  return 0.5f * (1.0f + erf(x * 0.707106781186547524f)) + x * density;
}
inline float gelu_tanh(float x) {
  const float inner = 0.797884560802865356f * (x + 0.044715f * x * x * x);
  return 0.5f * x * (1.0f + tanh(inner));
}
inline float gelu_tanh_grad(float x) {
  const float inner = 0.797884560802865356f * (x + 0.044715f * x * x * x);
  const float slope = 0.797884560802865356f * (1.0f + 0.134145f * x * x);
  const float t = tanh(inner);
  return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * slope;
}

// y[i] = x[i] in another type, n elements.
template <typename From, typename To>
void cast(const From* x, To* y, std::int64_t n) {
#pragma omp parallel for simd schedule(static)
  for (std::int64_t i = 0; i < n; ++i) store(y + i, load(x + i));
}

}  // namespace ithaca::cpu
